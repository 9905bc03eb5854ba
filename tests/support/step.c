/* SPDX-License-Identifier: Apache-2.0 */
#include "step.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 4 /* of a loop: so often one instruction is a point */

/* ── children ── */

#define UNTRACED 98 /* status of a child that may not be traced */

/* A child that waits to act, traced; -1: there may be none here; 0: it failed before. */
static pid_t begin(const struct step_act *act)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (act->prepare && act->prepare(act->arg) != 0)
			_exit(99);
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
			_exit(UNTRACED);
		raise(SIGSTOP);
		status = act->act(act->arg);
		raise(SIGSTOP); /* the end of what counts */
		_exit(status & 0x7f);
	}
	if (pid < 0)
		return -1;
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status)) {
		if (WIFEXITED(status))
			fprintf(stderr, "a child to be stepped through could not begin: %d\n",
			        WEXITSTATUS(status));
		return -1;
	}
	ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)PTRACE_O_EXITKILL);
	return pid;
}

static void end(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status))
		;
}

#if defined(__x86_64__)

static bool get_pc(pid_t pid, uintptr_t *ret)
{
	struct user_regs_struct regs;

	if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) != 0)
		return false;
	*ret = (uintptr_t)regs.rip;
	return true;
}

/* ── recording ── */

/* Goes on until the breakpoint. False: the child ended, stopped for the end, or died. */
static bool run_to(pid_t pid, uintptr_t pc)
{
	int status;

	if (ptrace(PTRACE_CONT, pid, NULL, NULL) != 0)
		return false;
	for (;;) {
		struct user_regs_struct regs;

		if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status) || WSTOPSIG(status) == SIGSTOP)
			return false;
		if (WSTOPSIG(status) == SIGTRAP && ptrace(PTRACE_GETREGS, pid, NULL, &regs) == 0 &&
		    regs.rip == pc + 1) {
			regs.rip = pc;
			return ptrace(PTRACE_SETREGS, pid, NULL, &regs) == 0;
		}
		/* Some other signal: it has it. */
		if (ptrace(PTRACE_CONT, pid, NULL, (void *)(intptr_t)WSTOPSIG(status)) != 0)
			return false;
	}
}

/* A string instruction with a repeat prefix traps after each repetition, of which there may be a hundred thousand. How long
 * it is; 0: another instruction. */
static unsigned repeat_length(pid_t pid, uintptr_t pc)
{
	long bytes = ptrace(PTRACE_PEEKTEXT, pid, (void *)pc, NULL);
	unsigned prefix = bytes & 0xff, next = bytes >> 8 & 0xff, len;

	if (prefix != 0xf3 && prefix != 0xf2)
		return 0;
	len = next >= 0x40 && next <= 0x4f ? 3 : 2; /* with a REX prefix */
	next = (unsigned)(bytes >> 8 * (len - 1)) & 0xff;
	return (next >= 0xa4 && next <= 0xa7) || (next >= 0xaa && next <= 0xaf) ? len : 0;
}

/* Runs the rest of the repetitions at pc. False: it is no such instruction, and nothing has run. */
static bool skip_repeats(pid_t pid, uintptr_t pc)
{
	unsigned len = repeat_length(pid, pc);
	long whole;
	bool there;

	if (!len)
		return false;
	whole = ptrace(PTRACE_PEEKTEXT, pid, (void *)(pc + len), NULL);
	if (ptrace(PTRACE_POKETEXT, pid, (void *)(pc + len), (void *)((whole & ~0xffL) | 0xcc)) != 0)
		return false;
	there = run_to(pid, pc + len);
	(void)ptrace(PTRACE_POKETEXT, pid, (void *)(pc + len), (void *)whole);
	return there;
}

/* How often each instruction came, by open addressing. */
struct seen {
	struct step_point *slots;
	size_t size, used;
};

static bool seen_grow(struct seen *s)
{
	struct seen bigger = { calloc(s->size ? s->size * 2 : 4096, sizeof(*s->slots)),
		               s->size ? s->size * 2 : 4096, 0 };

	if (!bigger.slots)
		return false;
	for (size_t i = 0; i < s->size; i++) {
		size_t at = s->slots[i].pc * 2654435761u % bigger.size;

		if (!s->slots[i].pc)
			continue;
		while (bigger.slots[at].pc)
			at = (at + 1) % bigger.size;
		bigger.slots[at] = s->slots[i];
		bigger.used++;
	}
	free(s->slots);
	*s = bigger;
	return true;
}

/* One more time; how often by now, 0 without memory. */
static unsigned seen_again(struct seen *s, uintptr_t pc)
{
	size_t at;

	if (s->used * 2 >= s->size && !seen_grow(s))
		return 0;
	at = pc * 2654435761u % s->size;
	while (s->slots[at].pc && s->slots[at].pc != pc)
		at = (at + 1) % s->size;
	if (!s->slots[at].pc) {
		s->slots[at].pc = pc;
		s->used++;
	}
	return ++s->slots[at].nth;
}

static bool add_point(struct step_trace *trace, size_t *cap, uintptr_t pc, unsigned nth)
{
	if (trace->count == *cap) {
		size_t more = *cap ? *cap * 2 : 1024;
		struct step_point *points = realloc(trace->points, more * sizeof(*points));

		if (!points)
			return false;
		trace->points = points;
		*cap = more;
	}
	trace->points[trace->count++] = (struct step_point){ pc, nth };
	return true;
}

int step_record(const struct step_act *act, unsigned long most, struct step_trace *ret)
{
	struct step_trace trace = { .points = NULL };
	struct seen seen = { .slots = NULL };
	uintptr_t last = 0;
	size_t cap = 0;
	pid_t pid = begin(act);
	int status = 0;

	if (pid <= 0)
		return pid < 0 ? -1 : 1;
	while (trace.instructions < most) {
		uintptr_t pc;
		unsigned nth;

		if (!get_pc(pid, &pc))
			break;
		nth = seen_again(&seen, pc);
		if (nth == 0 || (nth <= ROUNDS && !add_point(&trace, &cap, pc, nth)))
			break;
		trace.instructions++;
		if (pc == last && nth > ROUNDS && skip_repeats(pid, pc))
			continue;
		last = pc;
		if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) != 0 || waitpid(pid, &status, 0) != pid ||
		    !WIFSTOPPED(status))
			break;
		if (WSTOPSIG(status) == SIGSTOP) {
			trace.whole = true;
			break;
		}
	}
	if (trace.whole) {
		ptrace(PTRACE_CONT, pid, NULL, NULL);
		if (waitpid(pid, &status, 0) == pid && WIFEXITED(status))
			trace.status = WEXITSTATUS(status);
	} else {
		end(pid);
	}
	free(seen.slots);
	*ret = trace;
	return 0;
}

/* ── killing ── */

static bool step_over(pid_t pid, uintptr_t pc, long whole, long broken)
{
	int status;

	return ptrace(PTRACE_POKETEXT, pid, (void *)pc, (void *)whole) == 0 &&
	       ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0 && waitpid(pid, &status, 0) == pid &&
	       WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP &&
	       ptrace(PTRACE_POKETEXT, pid, (void *)pc, (void *)broken) == 0;
}

enum step_end step_kill(const struct step_act *act, const struct step_point *point)
{
	pid_t pid = begin(act);
	long whole, broken;
	unsigned left = point->nth;
	uintptr_t pc;

	if (pid <= 0)
		return STEP_FAILED;
	if (get_pc(pid, &pc) && pc == point->pc && --left == 0) { /* where it stands now */
		end(pid);
		return STEP_KILLED;
	}
	errno = 0;
	whole = ptrace(PTRACE_PEEKTEXT, pid, (void *)point->pc, NULL);
	broken = (whole & ~0xffL) | 0xcc;
	if (errno || ptrace(PTRACE_POKETEXT, pid, (void *)point->pc, (void *)broken) != 0) {
		end(pid);
		return STEP_FAILED;
	}
	while (run_to(pid, point->pc)) {
		if (--left == 0 || !step_over(pid, point->pc, whole, broken)) {
			end(pid);
			return left == 0 ? STEP_KILLED : STEP_ENDED;
		}
	}
	end(pid);
	return STEP_ENDED;
}

#else /* another machine: no breakpoints, and so no list of them */

int step_record(const struct step_act *act, unsigned long most, struct step_trace *ret)
{
	(void)act;
	(void)most;
	(void)ret;
	return -1;
}

enum step_end step_kill(const struct step_act *act, const struct step_point *point)
{
	(void)point;
	(void)act;
	return STEP_FAILED;
}

#endif

void step_trace_free(struct step_trace *trace)
{
	free(trace->points);
	*trace = (struct step_trace){ .points = NULL };
}

/* ── CPUs ── */

static cpu_set_t before;

void step_one_cpu(void)
{
	cpu_set_t set;

	sched_getaffinity(0, sizeof(before), &before);
	CPU_ZERO(&set);
	CPU_SET((unsigned)sched_getcpu(), &set);
	sched_setaffinity(0, sizeof(set), &set);
}

void step_any_cpu(void)
{
	sched_setaffinity(0, sizeof(before), &before);
}
