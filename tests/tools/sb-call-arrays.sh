#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# sb-call with arrays: files of numpy.save() in and out, through pipes, and files that lie.

tool=sb-call
. "$(dirname "$0")/../support/tool.sh"

if ! "$bin/sb-call" -s demo get numpy:__version__ >"$work/out" 2>&1; then
	grep -q "No module named 'numpy'" "$work/out" || cat "$work/out"
	echo "NumPy is not there"
	exit 77
fi
cd "$work" || exit 1

# make FILE EXPRESSION: numpy.save() of it, there.
make()
{
	"$bin/sb-call" -s demo call builtins:exec "\"import numpy as np; np.save('$work/$1', $2, allow_pickle=True)\"" '{}' >out 2>err ||
		wrong "$1 could not be made"
}

# gives EXPECTED ARG...: exit status 0, this line and nothing else.
gives()
{
	expected=$1
	shift
	checks=$((checks + 1))
	run "$@"
	if [ $status -ne 0 ] || [ "$(cat out)" != "$expected" ] || [ -s err ]; then
		wrong "sb-call $* should give $expected (status $status)"
	fi
}

# same FILE FILE: NumPy reads the same arrays from both.
same()
{
	checks=$((checks + 1))
	run -s demo call builtins:eval "\"(lambda np: (lambda a, b: a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())(np.load('$work/$1'), np.load('$work/$2')))(__import__('numpy'))\"" '{}'
	[ "$(cat out)" = true ] || wrong "$1 and $2 should hold the same"
}

# ── in ──

make a.npy 'np.arange(12.).reshape(3, 4)'
gives 66.0 -s demo call numpy:sum @a.npy
gives '{"$tuple": [3, 4]}' -s demo call numpy:shape @a.npy
gives '{"$array": {"dtype": "<f8", "shape": [4]}}' -s demo call numpy:sum @a.npy axis=0
gives 66.0 -s demo call numpy:sum a=@a.npy
gives '{"$tuple": [3, 4]}' -s demo call numpy:shape - <a.npy
checks=$((checks + 1))
[ "$(cat a.npy | "$bin/sb-call" -s demo call numpy:sum -)" = 66.0 ] || wrong "an array should come through a pipe"

# The elements lie in shared memory, and Python has them without a copy.
"$bin/sb-call" -s demo call builtins:exec '"import builtins\nbuiltins.lies = lambda a: not a.flags.owndata and type(a).__name__"' '{}' >out
gives '"ndarray"' -s demo call builtins:lies @a.npy

# ── and out, every dtype, order and shape ──

i=0
while read -r expression; do
	[ -n "$expression" ] || continue
	i=$((i + 1))
	make "in$i.npy" "$expression"
	checks=$((checks + 1))
	run -q -s demo --out "out$i.npy" call numpy:asarray "@in$i.npy"
	[ $status -eq 0 ] && [ ! -s out ] && [ ! -s err ] || wrong "$expression should go there and back (status $status)"
	same "in$i.npy" "out$i.npy"
done <<'END'
np.array([True, False])
np.arange(100, dtype='int8')
np.arange(100, dtype='>u2').reshape(10, 10)
np.arange(24, dtype='float16').reshape(2, 3, 4)
np.asfortranarray(np.arange(60, dtype='int32').reshape(3, 4, 5))
np.asfortranarray(np.arange(20000.).reshape(100, 200))
np.array([1 + 2j, float('nan')])
np.array(5.5)
np.zeros((0, 3))
np.zeros((3, 0), dtype='U4')
np.array(['a', 'b\u00fc\ud83d\ude00'])
np.array([b'x', b'yz'])
np.array(['2024-02-29T12:00', 'NaT'], dtype='M8[s]')
np.array([1, -1], dtype='m8[ns]')
np.ones((1,) * 32)
END
check "fifteen of them" '[ $i -eq 15 ]'

# A result that is a Fortran array is written as one; a view with gaps, in C order.
"$bin/sb-call" -q -s demo --out t.npy call numpy:transpose @a.npy
make t0.npy 'np.arange(12.).reshape(3, 4).T'
same t.npy t0.npy
check "the order is kept" 'head -c 128 t.npy | tr -d "\0" | grep -q "fortran_order.: True"'
checks=$((checks + 1))
[ "$("$bin/sb-call" -s demo --out - call numpy:negative @a.npy | "$bin/sb-call" -s demo call numpy:sum -)" = -66.0 ] ||
	wrong "an array should go out through a pipe"
check "mode" '[ "$(stat -c %a out1.npy)" = "$(touch mode; stat -c %a mode)" ]'
gives '{"$array": {"dtype": "<f8", "shape": [3]}}' -s demo --out b.npy call numpy:zeros 3
gives '{"$array": {"dtype": "<f8", "shape": [5]}}' -s demo --out b.npy call numpy:ones 5 # over the old one
gives 5.0 -s demo call numpy:sum @b.npy
gives '{"$array": {"dtype": "<f8", "shape": [5]}}' -s demo --out /dev/null call numpy:ones 5
check "nothing is left beside a file" '[ -z "$(ls | grep "\.npy\.")" ]'

# Large: what is read and written is not held twice in ordinary memory.
make big.npy 'np.arange(1 << 22, dtype=\"f8\").reshape(2048, 2048)'
checks=$((checks + 1))
(ulimit -v 400000 && "$bin/sb-call" -q -s demo --out big2.npy call numpy:negative @big.npy) >out 2>err || wrong "32 MiB"
gives -8796090925056.0 -s demo call numpy:sum @big2.npy

# ── in requests, and many in one round trip ──

gives 66.0 -s demo request '{"name": "numpy:sum", "files": {"0": "a.npy"}}'
gives '{"$array": {"dtype": "<f8", "shape": [3, 4]}}' -s demo request '{"name": "numpy:add", "args": [1], "files": {"1": "a.npy"}, "out": "plus.npy"}'
gives 78.0 -s demo call numpy:sum @plus.npy
cat >requests <<'END'
{"name": "numpy:sum", "files": {"0": "a.npy"}}
{"name": "numpy:add", "files": {"0": "a.npy", "1": "plus.npy"}, "out": "sum.npy"}
{"name": "numpy:negative", "args": [{"$item": 1}], "out": "negative.npy"}
{"name": "numpy:sum", "kwargs": {"axis": 1}, "files": {"a": "big.npy"}}
END
run -s demo --batch requests
check "each item has its line" '[ $status -eq 0 ] && [ ! -s err ] && [ "$(wc -l <out)" -eq 4 ] && [ "$(head -n 1 out)" = "{\"item\": 0, \"result\": 66.0}" ]'
gives 144.0 -s demo call numpy:sum @sum.npy
gives -144.0 -s demo call numpy:sum @negative.npy
printf '%s\n' '{"name": "builtins:abs", "args": [-1], "out": "no.npy"}' '{"name": "builtins:abs", "args": [-2]}' >requests
run -s demo --batch requests
check "what is no array is not written" '[ $status -eq 1 ] && grep -q "not an array" err && [ "$(cat out)" = "{\"item\": 1, \"result\": 2}" ] && [ ! -e no.npy ]'
fails 2 'fewer arguments' -s demo request '{"name": "numpy:sum", "files": {"1": "a.npy"}}'
fails 2 'needs an object' -s demo request '{"name": "numpy:sum", "files": ["a.npy"]}'
fails 2 'No such file' -s demo request '{"name": "numpy:sum", "files": {"0": "nowhere.npy"}}'
fails 2 'the name of a FILE' -s demo request '{"name": "numpy:sum", "out": ""}'
fails 2 'takes no "kwargs"' -s demo request '{"verb": "len", "target": "sbref:demo:1:0.1:00000000000000000000000000000000", "files": {"x": "a.npy"}}'

# ── what goes wrong ──

fails 1 'the result is int, not an array' -s demo --out c.npy call builtins:abs -1
fails 1 '"code":"SB_EKIND"' --json -s demo --out c.npy call builtins:abs -1
fails 1 'math domain error' -s demo --out c.npy call math:sqrt -1
check "no file is made" '[ ! -e c.npy ]'
fails 3 'cannot be written: No such file' -s demo --out no/c.npy call numpy:ones 5
fails 3 'cannot be written: Is a directory' -s demo --out . call numpy:ones 5
[ -c /dev/full ] && fails 3 'cannot be written: No space left' -s demo --out /dev/full call numpy:ones 5
fails 2 'contradict' -s demo --as-ref --out c.npy call numpy:ones 5
fails 2 '--out does not go with --batch' -s demo --out c.npy --batch
fails 2 '--out does not go with iter' --out c.npy iter 'sbref:x'
make object.npy 'np.array([object(), 1], dtype=object)'
fails 2 'Python objects' -s demo call numpy:sum @object.npy
make fields.npy 'np.zeros(3, dtype=[(\"a\", \"f8\")])'
fails 2 'fields' -s demo call numpy:sum @fields.npy
head -c 100 a.npy >cut.npy
fails 2 'cut off' -s demo call numpy:sum @cut.npy
head -c 200 a.npy >cut.npy
fails 2 'it has 72 of the 96 bytes' -s demo call numpy:sum @cut.npy
checks=$((checks + 1))
head -c 200 a.npy | "$bin/sb-call" -s demo call numpy:sum - >out 2>err
status=$?
[ $status -eq 2 ] && [ ! -s out ] && grep -q '72 of the 96 bytes' err || wrong "a pipe that ends early (status $status)"

# header SHAPE: a file that says it holds so many float64.
header()
{
	text="{'descr': '<f8', 'fortran_order': False, 'shape': $1}"
	{
		printf '\223NUMPY\001\000'
		printf "\\$(printf %03o "${#text}")\\000%s" "$text"
	} >lie.npy
}

header '(1099511627776,)'
fails 2 'it has 0 of the 8796093022208 bytes' -s demo call numpy:sum @lie.npy
header '(4294967296, 4294967296, 4294967296)'
fails 2 'beyond any memory' -s demo call numpy:sum @lie.npy
header '(-1,)'
fails 2 'negative' -s demo call numpy:sum @lie.npy
header '(1099511627776,)' # through a pipe nobody can know that it lies; there is a limit
checks=$((checks + 1))
cat lie.npy | "$bin/sb-call" -s demo call numpy:sum - >out 2>err
status=$?
[ $status -ge 2 ] && [ ! -s out ] && grep -q 'max_array_bytes' err || wrong "a huge array from a pipe (status $status)"
fails 2 'an array is not a request' -s demo request @a.npy
fails 2 'an array is not a request' -s demo --batch a.npy
gives 66.0 -s demo call numpy:sum @a.npy # and it goes on
tool=sb-inspect
wait_for '[ "$(number arrays)" = 0 ]'
check "no array is left" '[ "$(number arrays)" = 0 ] && [ "$(number array_holds)" = 0 ]'
finish
