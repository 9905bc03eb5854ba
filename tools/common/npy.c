/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The npy format. The header is a Python literal; of Python, only what such a header is made of is understood.
 *
 * Locks: none. Crash story: an array that was being read goes with its process.
 */
#include "npy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "snakebridge/error.h"

#define HEADER_MAX 65536           /* bytes; what we read is a hundred */
#define BUFFER     ((size_t)65536) /* for elements that are not where they go */

static bool wrong(char *error, const char *fmt, ...) SB_PRINTF_LIKE(2, 3);
static bool wrong(char *error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error, TOOL_NPY_ERROR_MAX, fmt, ap);
	va_end(ap);
	return false;
}

static bool read_all(FILE *file, void *to, size_t len, const char *what, char *error)
{
	size_t n = fread(to, 1, len, file);

	if (n == len)
		return true;
	if (ferror(file))
		return wrong(error, "reading failed: %s", strerror(errno));
	return wrong(error, "the file is cut off: it ends after %zu of the %zu bytes of its %s", n, len,
	             what);
}

/* ── the header's literal ── */

struct parser {
	const char *at;
	struct tool_npy *npy;
	char *error;
	bool has_dtype, has_order, has_shape;
};

static bool no_header(struct parser *p)
{
	return wrong(p->error, "the header is not {'descr': …, 'fortran_order': …, 'shape': …}, at \"%.20s\"",
	             p->at);
}

static bool take(struct parser *p, char c)
{
	p->at += strspn(p->at, " \t\n");
	if (*p->at != c)
		return false;
	p->at++;
	return true;
}

static bool take_word(struct parser *p, const char *word)
{
	size_t n = strlen(word);

	p->at += strspn(p->at, " \t\n");
	if (strncmp(p->at, word, n) != 0)
		return false;
	p->at += n;
	return true;
}

/* A str without escapes, which none of ours has. */
static bool take_text(struct parser *p, char *text, size_t size)
{
	char quote;
	size_t n;

	p->at += strspn(p->at, " \t\n");
	quote = *p->at;
	if (quote != '\'' && quote != '"')
		return no_header(p);
	for (n = 1; p->at[n] && p->at[n] != quote && p->at[n] != '\\'; n++)
		;
	if (p->at[n] != quote)
		return no_header(p);
	if (n > size)
		return wrong(p->error, "the header holds a text of %zu bytes, \"%.20s…\"", n - 1, p->at + 1);
	memcpy(text, p->at + 1, n - 1);
	text[n - 1] = '\0';
	p->at += n + 1;
	return true;
}

/* What an element is made of. The library knows which of these there are; here it is known what they are not. */
static bool check_dtype(struct parser *p)
{
	const char *d = p->npy->dtype + (p->npy->dtype[0] && strchr("<>|=", p->npy->dtype[0]) ? 1 : 0);
	char *end;
	unsigned long n;

	if (*d == 'O')
		return wrong(p->error, "its elements are Python objects, which are not read: that would run "
		                       "what is in the file");
	if (!*d || !strchr("biufcSUMm", *d) || d[1] < '0' || d[1] > '9')
		return wrong(p->error, "its dtype '%s' is not one of numbers, fixed-size text or dates",
		             p->npy->dtype);
	n = strtoul(d + 1, &end, 10);
	if ((*end && *end != '[') || n > 1u << 30)
		return wrong(p->error, "its dtype '%s' is not one of numbers, fixed-size text or dates",
		             p->npy->dtype);
	p->npy->itemsize = *d == 'U' ? 4 * n : n;
	return true;
}

static bool take_dtype(struct parser *p)
{
	p->at += strspn(p->at, " \t\n");
	if (*p->at == '[' || *p->at == '(')
		return wrong(p->error,
		             "its elements have fields or a shape of their own, which arrays here have not");
	p->has_dtype = true;
	return take_text(p, p->npy->dtype, sizeof(p->npy->dtype)) && check_dtype(p);
}

static bool take_order(struct parser *p)
{
	p->has_order = true;
	p->npy->fortran = take_word(p, "True");
	return p->npy->fortran || take_word(p, "False") || no_header(p);
}

static bool take_length(struct parser *p)
{
	unsigned long long n;
	char *end;

	p->at += strspn(p->at, " \t\n");
	if (*p->at < '0' || *p->at > '9')
		return *p->at == '-' ? wrong(p->error, "its shape has a negative length") : no_header(p);
	errno = 0;
	n = strtoull(p->at, &end, 10);
	if (errno || n > SIZE_MAX / 2)
		return wrong(p->error, "its shape has a length beyond any memory");
	if (p->npy->ndim >= SB_ARRAY_NDIM_MAX)
		return wrong(p->error, "it has more than %d dimensions", SB_ARRAY_NDIM_MAX);
	p->npy->shape[p->npy->ndim++] = (size_t)n;
	p->at = end + (*end == 'L'); /* as Python 2 wrote it */
	return true;
}

static bool take_shape(struct parser *p)
{
	bool comma = true;

	p->has_shape = true;
	if (!take(p, '('))
		return no_header(p);
	while (!take(p, ')')) {
		if (!comma)
			return no_header(p);
		if (!take_length(p))
			return false;
		comma = take(p, ',');
	}
	/* Python takes "(3)" for a number. */
	return p->npy->ndim != 1 || comma || no_header(p);
}

static bool take_entry(struct parser *p)
{
	char key[32];

	if (!take_text(p, key, sizeof(key)))
		return false;
	if (!take(p, ':'))
		return no_header(p);
	if (strcmp(key, "descr") == 0 && !p->has_dtype)
		return take_dtype(p);
	if (strcmp(key, "fortran_order") == 0 && !p->has_order)
		return take_order(p);
	if (strcmp(key, "shape") == 0 && !p->has_shape)
		return take_shape(p);
	return wrong(p->error, "the header has the key '%s' twice, or it means nothing", key);
}

static bool parse(const char *text, struct tool_npy *npy, char *error)
{
	struct parser p = { .at = text, .npy = npy, .error = error };
	bool comma = true;

	if (!take(&p, '{'))
		return no_header(&p);
	while (!take(&p, '}')) {
		if (!comma)
			return no_header(&p);
		if (!take_entry(&p))
			return false;
		comma = take(&p, ',');
	}
	p.at += strspn(p.at, " \t\n");
	if (*p.at)
		return no_header(&p);
	return (p.has_dtype && p.has_order && p.has_shape) ||
	       wrong(error, "the header says not all of dtype, order and shape");
}

/* ── sizes ── */

static bool measure(struct tool_npy *npy, char *error)
{
	bool too_big = false, empty = false;

	npy->count = 1;
	for (int d = 0; d < npy->ndim; d++) {
		empty = empty || npy->shape[d] == 0;
		too_big = __builtin_mul_overflow(npy->count, npy->shape[d] ? npy->shape[d] : 1,
		                                 &npy->count) ||
		          too_big;
	}
	if (too_big || __builtin_mul_overflow(npy->count, npy->itemsize, &npy->nbytes) ||
	    npy->nbytes > PTRDIFF_MAX)
		return wrong(error, "its shape is beyond any memory");
	if (empty)
		npy->count = npy->nbytes = 0;
	return true;
}

/* Of a file whose size is known. */
static bool check_size(FILE *file, const struct tool_npy *npy, char *error)
{
	off_t at = ftello(file);
	struct stat st;

	if (at < 0 || fstat(fileno(file), &st) || !S_ISREG(st.st_mode))
		return true;
	if (st.st_size >= at && (uintmax_t)(st.st_size - at) >= npy->nbytes)
		return true;
	return wrong(error, "the file is cut off: it has %jd of the %zu bytes of its elements",
	             (intmax_t)(st.st_size > at ? st.st_size - at : 0), npy->nbytes);
}

bool tool_npy_read_header(FILE *file, struct tool_npy *ret, char error[TOOL_NPY_ERROR_MAX])
{
	unsigned char version[2], bytes[4] = { 0 };
	struct tool_npy npy = { .ndim = 0 };
	size_t len;
	char *text;
	bool fine;

	if (!read_all(file, version, sizeof(version), "version", error))
		return false;
	if (version[0] < 1 || version[0] > 3 || version[1] != 0)
		return wrong(error, "its format is of version %u.%u, not 1.0, 2.0 or 3.0", version[0],
		             version[1]);
	if (!read_all(file, bytes, version[0] == 1 ? 2 : 4, "header's length", error))
		return false;
	len = bytes[0] | (size_t)bytes[1] << 8 | (size_t)bytes[2] << 16 | (size_t)bytes[3] << 24;
	if (len > HEADER_MAX)
		return wrong(error, "its header would have %zu bytes", len);
	text = calloc(1, len + 1);
	if (!text)
		return wrong(error, "out of memory");
	fine = read_all(file, text, len, "header", error) &&
	       (strlen(text) == len || wrong(error, "its header holds a NUL byte")) &&
	       parse(text, &npy, error) && measure(&npy, error) && check_size(file, &npy, error);
	free(text);
	if (fine)
		*ret = npy;
	return fine;
}

/* ── elements ── */

/* Goes through an array's elements, with the first or the last index running fastest. */
struct walk {
	int ndim;
	bool fortran;
	const size_t *shape;
	const int64_t *strides;
	size_t index[SB_ARRAY_NDIM_MAX];
	int64_t offset; /* of the element that it stands on, from the first */
};

static void step(struct walk *w)
{
	for (int k = 0; k < w->ndim; k++) {
		int d = w->fortran ? k : w->ndim - 1 - k;

		w->offset += w->strides[d];
		if (++w->index[d] < w->shape[d])
			return;
		w->offset -= w->strides[d] * (int64_t)w->shape[d];
		w->index[d] = 0;
	}
}

/* Elements that lie in the file in another order than here. */
static bool read_reordered(FILE *file, const struct tool_npy *npy, const int64_t *strides, char *to,
                           char *error)
{
	size_t chunk = npy->itemsize > BUFFER ? 1 : BUFFER / npy->itemsize, n;
	struct walk w = { .ndim = npy->ndim, .fortran = true, .shape = npy->shape, .strides = strides };
	char *buffer = malloc(chunk * npy->itemsize);
	bool fine = buffer || wrong(error, "out of memory");

	for (size_t done = 0; done < npy->count && fine; done += n) {
		n = npy->count - done < chunk ? npy->count - done : chunk;
		fine = read_all(file, buffer, n * npy->itemsize, "elements", error);
		for (size_t i = 0; i < n && fine; i++, step(&w))
			memcpy(to + w.offset, buffer + i * npy->itemsize, npy->itemsize);
	}
	free(buffer);
	return fine;
}

int tool_npy_read_array(FILE *file, const struct tool_npy *npy, sb_session *session, sb_array **ret_array,
                        char error[TOOL_NPY_ERROR_MAX])
{
	sb_array *array;
	bool fine;
	int err;

	error[0] = '\0';
	err = sb_array_new(session, npy->dtype, npy->ndim, npy->shape, &array);
	if (err)
		return err;
	if (sb_array_nbytes(array) != npy->nbytes)
		fine = wrong(error, "its dtype '%s' is not known here", npy->dtype);
	else if (npy->nbytes == 0)
		fine = true;
	else if (npy->fortran && npy->ndim > 1)
		fine = read_reordered(file, npy, sb_array_strides(array), sb_array_writable(array), error);
	else
		fine = read_all(file, sb_array_writable(array), npy->nbytes, "elements", error);
	if (!fine) {
		sb_array_unref(array);
		return SB_EINVAL;
	}
	*ret_array = array;
	return 0;
}

/* ── writing ── */

/* The strides of an array without gaps whose first index runs fastest? */
static bool is_fortran(const sb_array *array)
{
	int64_t stride = (int64_t)sb_array_itemsize(array);

	for (int d = 0; d < sb_array_ndim(array); d++) {
		if (sb_array_shape(array)[d] != 1 && sb_array_strides(array)[d] != stride)
			return false;
		stride *= (int64_t)sb_array_shape(array)[d];
	}
	return true;
}

/* The header: magic, version, length, and a literal that is filled up so that the elements begin at a multiple of 64. */
static bool write_header(FILE *file, const sb_array *array, bool fortran)
{
	char text[128 + 24 * SB_ARRAY_NDIM_MAX];
	size_t n, total;

	n = (size_t)snprintf(text, sizeof(text), "{'descr': '%s', 'fortran_order': %s, 'shape': (",
	                     sb_array_dtype(array), fortran ? "True" : "False");
	for (int d = 0; d < sb_array_ndim(array); d++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%zu%s", d ? " " : "",
		                      sb_array_shape(array)[d],
		                      d + 1 < sb_array_ndim(array) || d == 0 ? "," : "");
	n += (size_t)snprintf(text + n, sizeof(text) - n, "), }");
	total = (TOOL_NPY_MAGIC_LEN + 4 + n + 1 + 63) / 64 * 64;
	fwrite(TOOL_NPY_MAGIC "\x01\x00", 1, TOOL_NPY_MAGIC_LEN + 2, file);
	n = total - TOOL_NPY_MAGIC_LEN - 4;
	fputc((int)(n & 0xff), file);
	fputc((int)(n >> 8), file);
	return fprintf(file, "%-*s\n", (int)n - 1, text) == (int)n;
}

static bool write_elements(FILE *file, const sb_array *array)
{
	size_t itemsize = sb_array_itemsize(array), count = sb_array_count(array);
	struct walk w = { .ndim = sb_array_ndim(array),
		          .shape = sb_array_shape(array),
		          .strides = sb_array_strides(array) };
	const char *from = sb_array_data(array);

	for (size_t i = 0; i < count; i++, step(&w))
		if (fwrite(from + w.offset, 1, itemsize, file) != itemsize)
			return false;
	return true;
}

bool tool_npy_write(FILE *file, const sb_array *array, char error[TOOL_NPY_ERROR_MAX])
{
	bool fortran = !sb_array_is_contiguous(array) && is_fortran(array),
	     fine = write_header(file, array, fortran);
	size_t n = sb_array_nbytes(array);

	if (fine && (fortran || sb_array_is_contiguous(array)))
		fine = n == 0 || fwrite(sb_array_data(array), 1, n, file) == n;
	else if (fine)
		fine = write_elements(file, array);
	return (fine && !ferror(file)) || wrong(error, "%s", strerror(errno));
}
