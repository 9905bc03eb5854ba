/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast a death is known. Three measurements, each of real processes killed by SIGKILL, while a process spins on one
 * of the CPUs:
 *
 *   small-owner, big-owner   a caller is blocked in a call; its designated owner is killed; from the kill to the return of
 *                            the call with SB_EOWNERDIED. Beside it when a pidfd and waitpid() told of the same death: what
 *                            peers go by, and how late a timer is that expires just before: the machine's own part in
 *                            it. The big one has --mb (500) of resident memory in ordinary pages.
 *   caller-session           a caller that is the session's last owner is killed; from the kill to the end of the Python
 *                            object that its ref kept, told by the object's own __del__ in the designated owner.
 *   caller-hold              a caller that views an array of a session that lives on is killed; from the kill to the end of
 *                            its hold, seen in the table beside the designated owner's arena. (Needs NumPy.)
 *
 * The last two once with the designated owner watching alone, once with only sb-reaper --interval watching.
 *
 * Where the machine is a virtual one, its host may take its CPUs away for milliseconds: stolen_percent says what part of
 * their time, by /proc/stat. No process can be told of anything while its CPU is away: measure where that is next to nothing.
 *
 *   cmake --build build/release --target bench-death_notice sb-reaper
 *   build/release/bin/bench-death_notice [--kills N] [--callers N] [--mb MB] [--only NAME] [--strict]
 *
 * --strict: status 1 also where p99 is above 2 ms (owners) or the median above 1 ms (callers).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "holds.h"
#include "os_linux.h"
#include "snakebridge/snakebridge.h"
#include "stolen.h"

#define OWNER_TARGET_US  2000.0
#define CALLER_TARGET_US 1000.0
#define LATE_US          30000000.0
#define SETTLE_US        10000

static char dir[256];
static pid_t maker; /* of dir */
static bool strict;

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "death_notice: %s: %s (%s)\n", what, sb_last_error()->message, strerror(errno));
	exit(2);
}

static void must(bool ok, const char *what)
{
	if (!ok)
		die(what);
}

/* ── the other CPU ── */

static pid_t spinner;

static void spin_elsewhere(void)
{
	cpu_set_t all, one;
	int last = -1;

	must(sched_getaffinity(0, sizeof(all), &all) == 0, "sched_getaffinity");
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &all))
			last = i;
	if (CPU_COUNT(&all) < 2)
		return; /* then it would only be in the way */
	spinner = fork();
	if (spinner != 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	CPU_ZERO(&one);
	CPU_SET(last, &one);
	sched_setaffinity(0, sizeof(one), &one);
	for (;;)
		;
}

/* ── a process that starts others on request, so that none of them inherits more than it should ── */

struct order {
	int number;
	int mb;    /* of resident memory */
	bool view; /* victim: views the array; else makes an object that tells of its end */
	int tell_fd;
};

struct factory {
	pid_t pid;
	int orders,
		answers; /* answers: the child's pid once it is ready (-1: failed), then when waitpid() returned */
};

typedef int (*child_fn)(const struct order *order); /* 0: it is ready, and sleeps until it is killed */

static void send_all(int fd, const void *data, size_t len)
{
	must(write(fd, data, len) == (ssize_t)len, "writing to a pipe");
}

static void receive(int fd, void *data, size_t len)
{
	ssize_t n;

	do
		n = read(fd, data, len);
	while (n < 0 && errno == EINTR);
	must(n == (ssize_t)len, "reading from a pipe");
}

static void child_main(child_fn fn, const struct order *order, int ready)
{
	int err = fn(order);
	char answer = err ? 'F' : 'R';

	if (err)
		fprintf(stderr, "death_notice: a child: %s: %s\n", sb_error_name(err),
		        sb_last_error()->message);
	send_all(ready, &answer, 1);
	for (;;)
		pause();
}

static void factory_main(child_fn fn, int orders, int answers)
{
	struct order order;

	signal(SIGPIPE, SIG_DFL);
	while (read(orders, &order, sizeof(order)) == (ssize_t)sizeof(order)) {
		int ready[2];
		int64_t seen_ns;
		pid_t pid;
		char answer = 'F';

		must(pipe2(ready, O_CLOEXEC) == 0, "pipe");
		pid = fork();
		if (pid == 0)
			child_main(fn, &order, ready[1]);
		close(ready[1]);
		if (read(ready[0], &answer, 1) != 1 || answer != 'R') {
			kill(pid, SIGKILL);
			waitpid(pid, NULL, 0);
			pid = -1;
		}
		close(ready[0]);
		send_all(answers, &pid, sizeof(pid));
		if (pid < 0)
			continue;
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		seen_ns = now_ns();
		send_all(answers, &seen_ns, sizeof(seen_ns));
	}
	_exit(0);
}

static struct factory factory_start(child_fn fn)
{
	struct factory f;
	int down[2], up[2];

	must(pipe2(down, O_CLOEXEC) == 0 && pipe2(up, O_CLOEXEC) == 0, "pipe");
	fflush(NULL);
	f.pid = fork();
	if (f.pid == 0) {
		close(down[1]);
		close(up[0]);
		factory_main(fn, down[0], up[1]);
	}
	close(down[0]);
	close(up[1]);
	f.orders = down[1];
	f.answers = up[0];
	return f;
}

static pid_t factory_make(const struct factory *f, const struct order *order)
{
	pid_t pid;

	send_all(f->orders, order, sizeof(*order));
	receive(f->answers, &pid, sizeof(pid));
	must(pid > 0, "a child did not get ready");
	return pid;
}

static void factory_stop(const struct factory *f)
{
	close(f->orders);
	close(f->answers);
	waitpid(f->pid, NULL, 0);
}

/* ── numbers ── */

struct series {
	const char *name;
	double *us;
	int count, max, wrong;
	int64_t begun_ns;
	double stolen_s;
};

static struct series series_begin(const char *name, int max)
{
	struct series s = { .name = name,
		            .us = calloc((size_t)max + 1, sizeof(double)),
		            .max = max,
		            .begun_ns = now_ns(),
		            .stolen_s = stolen_seconds() };

	must(s.us != NULL, "memory");
	return s;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double quantile(struct series *s, double q)
{
	if (!s->count)
		return LATE_US;
	qsort(s->us, (size_t)s->count, sizeof(*s->us), ascending);
	return s->us[(int)(q * (s->count - 1) + 0.5)];
}

static void series_show(struct series *s)
{
	printf("  %-34s %6d %10.0f %10.0f %10.0f\n", s->name, s->count, quantile(s, 0.5), quantile(s, 0.99),
	       quantile(s, 1));
	fflush(stdout);
}

/* True: as promised. timer: of how late timers were meanwhile, or NULL. Ends both. */
static bool series_end(struct series *s, struct series *timer, const char *item, double q, double target_us)
{
	double seconds = (double)(now_ns() - s->begun_ns) / 1e9;
	bool met = quantile(s, q) <= target_us;

	printf("reliability: death-notice/%s tried=%d failed=%d seconds=%.0f p50_us=%.0f p99_us=%.0f "
	       "max_us=%.0f stolen_percent=%.1f",
	       item, s->count + s->wrong, s->wrong, seconds, quantile(s, 0.5), quantile(s, 0.99),
	       quantile(s, 1), stolen_percent(s->stolen_s, seconds));
	if (timer)
		printf(" timer_p99_us=%.0f", quantile(timer, 0.99));
	printf("\n");
	fflush(stdout);
	free(s->us);
	if (timer)
		free(timer->us);
	return s->wrong == 0 && (met || !strict);
}

static void series_legend(void)
{
	printf("  %-34s %6s %10s %10s %10s\n", "microseconds from the kill", "kills", "median", "p99",
	       "most");
}

/* ── a designated owner dies ── */

static sb_session *open_session(sb_bridge *bridge, const char *kind, int number, sb_designated designated,
                                int persistent)
{
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session *s = NULL;
	char id[64];

	snprintf(id, sizeof(id), "%s-%d", kind, number);
	o.session_id = id;
	o.designated = designated;
	if (persistent)
		o.persistent = 1;
	return sb_session_open(bridge, &o, &s) ? NULL : s;
}

/* Small pages, as a heap of many small objects has. */
static void fill_memory(int mb)
{
	size_t size = (size_t)mb << 20;
	char *p;

	if (!mb)
		return;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(p != MAP_FAILED, "memory of the big owner");
	madvise(p, size, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < size; i += 4096)
		p[i] = 1;
}

static int owner_child(const struct order *order)
{
	sb_bridge *bridge;
	int err = sb_bridge_open(dir, NULL, &bridge);

	if (err)
		return err;
	if (!open_session(bridge, "owner", order->number, SB_DESIGNATED_SELF, 0))
		return sb_last_error()->code;
	fill_memory(order->mb);
	return 0;
}

static int running[2]; /* the call writes to it once it runs */

struct blocked {
	sb_session *s;
	int err, outcome;
	int64_t returned_ns;
};

static void *block(void *arg)
{
	struct blocked *b = arg;
	char source[128];

	snprintf(source, sizeof(source), "import os, time; os.write(%d, b'R'); time.sleep(600)", running[1]);
	b->err = sb_call(b->s, "builtins:exec", sb_args("s{}", source), NULL);
	b->returned_ns = now_ns();
	b->outcome = sb_last_error()->outcome;
	return NULL;
}

struct polled {
	int fd;
	int64_t seen_ns;
};

static void *poll_pidfd(void *arg)
{
	struct polled *p = arg;
	struct pollfd fd = { .fd = p->fd, .events = POLLIN };

	while (poll(&fd, 1, -1) < 0 && errno == EINTR)
		;
	p->seen_ns = now_ns();
	return NULL;
}

static void add(struct series *s, int64_t from_ns, int64_t to_ns)
{
	s->us[s->count++] = (double)(to_ns - from_ns) / 1e3;
}

struct owner_series {
	struct series call, pidfd, wait, timer;
};

static void kill_one_owner(sb_bridge *bridge, const struct factory *f, const struct order *order,
                           struct owner_series *series)
{
	pid_t pid = factory_make(f, order);
	struct blocked b = { .s = open_session(bridge, "owner", order->number, SB_DESIGNATED_ATTACH_ONLY,
		                               0) };
	struct polled p = { .fd = (int)syscall(SYS_pidfd_open, pid, 0) };
	pthread_t caller, poller;
	int64_t called_ns, killed_ns, waited_ns;
	char runs;

	must(b.s && p.fd >= 0, "joining the session");
	must(pthread_create(&poller, NULL, poll_pidfd, &p) == 0 &&
	             pthread_create(&caller, NULL, block, &b) == 0,
	     "a thread");
	receive(running[0], &runs, 1);
	called_ns = now_ns();
	usleep(SETTLE_US); /* it sleeps in Python; the caller in the kernel, past its first look after the owner */
	killed_ns = now_ns();
	kill(pid, SIGKILL);
	pthread_join(caller, NULL);
	pthread_join(poller, NULL);
	receive(f->answers, &waited_ns, sizeof(waited_ns));
	close(p.fd);
	if (b.err == SB_EOWNERDIED && b.outcome == SB_OUTCOME_UNKNOWN)
		add(&series->call, killed_ns, b.returned_ns);
	else
		series->call.wrong++;
	add(&series->pidfd, killed_ns, p.seen_ns);
	add(&series->wait, killed_ns, waited_ns);
	add(&series->timer, called_ns + SETTLE_US * INT64_C(1000), killed_ns);
	sb_session_close(b.s);
}

static bool owners(const char *item, int kills, int mb)
{
	struct factory f;
	struct owner_series s = { .call = series_begin("blocked call returns", kills),
		                  .pidfd = series_begin("pidfd is readable", kills),
		                  .wait = series_begin("waitpid() returns", kills),
		                  .timer = series_begin("beside: a timer is so late", kills) };
	sb_bridge *bridge;

	must(pipe2(running, O_CLOEXEC) == 0, "pipe");
	f = factory_start(owner_child);
	must(sb_bridge_open(dir, NULL, &bridge) == 0, "the bridge");
	printf("%s: a designated owner with %d MB more than Python is killed\n", item, mb);
	for (int i = 0; i < kills; i++) {
		struct order order = { .number = i, .mb = mb };

		kill_one_owner(bridge, &f, &order, &s);
	}
	series_legend();
	series_show(&s.call);
	series_show(&s.pidfd);
	series_show(&s.wait);
	series_show(&s.timer);
	free(s.pidfd.us);
	free(s.wait.us);
	sb_bridge_close(bridge);
	factory_stop(&f);
	close(running[0]);
	close(running[1]);
	return series_end(&s.call, &s.timer, item, 0.99, OWNER_TARGET_US);
}

/* ── a caller dies ── */

static const char python[] =
	"import os, struct, time\n"
	"class Told:\n"
	"    def __init__(self, fd): self.fd = fd\n"
	"    def __del__(self): os.write(self.fd, struct.pack('q', time.monotonic_ns()))\n"
	"def array():\n"
	"    import numpy\n"
	"    return numpy.zeros(1 << 20)\n";

static int as_ref(sb_session *s, const char *name, const sb_ref *target, sb_args *args, sb_ref *ret)
{
	sb_request r = SB_REQUEST_INIT;
	sb_value *v = NULL;
	int err;

	r.verb = target ? SB_VERB_METHOD : SB_VERB_CALL;
	r.target = target;
	r.name = name;
	r.args = args;
	r.flags = SB_CALL_AS_REF;
	err = sb_invoke(s, &r, &v);
	if (!err)
		*ret = *sb_value_ref(v);
	sb_value_free(v);
	return err;
}

/* Defines what python[] does in the session; ret: the named thing. */
static int define(sb_session *s, const char *name, sb_ref *ret)
{
	sb_ref names;
	int err = as_ref(s, "builtins:dict", NULL, NULL, &names);

	if (!err)
		err = sb_call(s, "builtins:exec", sb_args("sr", python, &names), NULL);
	return err ? err : as_ref(s, "__getitem__", &names, sb_args("s", name), ret);
}

static int view_array(sb_session *s)
{
	sb_request r = SB_REQUEST_INIT;
	sb_ref function;
	sb_value *v = NULL;
	int err = as_ref(s, "numpy:zeros", NULL, sb_args("i", (int64_t)4),
	                 &function); /* from now on its arrays are shared */

	if (!err)
		err = define(s, "array", &function);
	if (err)
		return err;
	r.verb = SB_VERB_METHOD;
	r.target = &function;
	r.name = "__call__";
	r.flags = SB_CALL_AS_VIEW;
	return sb_invoke(s, &r, &v); /* kept: the value is the hold */
}

static int victim_child(const struct order *order)
{
	sb_ref type, object;
	sb_bridge *bridge;
	sb_session *s;
	int err = sb_bridge_open(dir, NULL, &bridge);

	if (err)
		return err;
	s = open_session(bridge, order->view ? "viewed" : "owned", order->number, SB_DESIGNATED_ATTACH_ONLY,
	                 0);
	if (!s)
		return sb_last_error()->code;
	if (order->view)
		return view_array(s);
	err = define(s, "Told", &type);
	return err ? err : as_ref(s, "__call__", &type, sb_args("i", (int64_t)order->tell_fd), &object);
}

/* Serves sessions by order: opens one, says so, and closes its handle when told, so that the victim is its last owner. */
static void host_main(int orders, int answers)
{
	struct order order;
	sb_bridge *bridge;
	sb_session *s = NULL;
	char ok = 'R';

	must(sb_bridge_open(dir, NULL, &bridge) == 0, "the bridge");
	while (read(orders, &order, sizeof(order)) == (ssize_t)sizeof(order)) {
		if (s) {
			sb_session_close(s);
			s = NULL;
		} else {
			s = open_session(bridge, order.view ? "viewed" : "owned", order.number,
			                 SB_DESIGNATED_SELF, 0);
			must(s != NULL, "hosting a session");
		}
		send_all(answers, &ok, 1);
	}
	sb_bridge_close(bridge);
	_exit(0);
}

static struct factory host_start(const char *sweep_ms)
{
	struct factory f;
	int down[2], up[2];

	must(pipe2(down, O_CLOEXEC) == 0 && pipe2(up, O_CLOEXEC) == 0, "pipe");
	fflush(NULL);
	f.pid = fork();
	if (f.pid == 0) {
		close(down[1]);
		close(up[0]);
		if (sweep_ms)
			setenv("SNAKEBRIDGE_SWEEP_MS", sweep_ms, 1);
		host_main(down[0], up[1]);
	}
	close(down[0]);
	close(up[1]);
	f.orders = down[1];
	f.answers = up[0];
	return f;
}

static void host_order(const struct factory *host, const struct order *order)
{
	char ok;

	send_all(host->orders, order, sizeof(*order));
	receive(host->answers, &ok, 1);
}

static pid_t reaper_start(void)
{
	char path[512] = "";
	pid_t pid = fork();
	char *slash;

	if (pid != 0)
		return pid;
	must(readlink("/proc/self/exe", path, sizeof(path) - 16) > 0, "this program's place");
	slash = strrchr(path, '/');
	strcpy(slash + 1, "sb-reaper");
	execl(path, "sb-reaper", "--dir", dir, "--interval", "60", "-q", (char *)NULL);
	fprintf(stderr, "death_notice: %s cannot be run: build sb-reaper\n", path);
	_exit(127);
}

static void end_process(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void kill_session_owner(const struct factory *host, const struct factory *victims, struct order *order,
                               int told, bool reaper, struct series *s)
{
	struct pollfd fd = { .fd = told, .events = POLLIN };
	int64_t killed_ns, told_ns;
	pid_t pid;

	host_order(host, order);
	pid = factory_make(victims, order);
	host_order(host, order);
	usleep(reaper ? 300000 : 2000); /* sb-reaper looks 4 times a second who is new */
	killed_ns = now_ns();
	kill(pid, SIGKILL);
	if (poll(&fd, 1, 10000) == 1) {
		receive(told, &told_ns, sizeof(told_ns));
		add(s, killed_ns, told_ns);
	} else {
		s->wrong++;
	}
	receive(victims->answers, &told_ns, sizeof(told_ns));
}

/* ── holds ── */

static int open_below(int at, const char *name)
{
	return openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* The first entry that begins and ends so. */
static bool find_entry(int at, const char *begins, const char *ends, char *ret, size_t size)
{
	DIR *d = fdopendir(dup(at));
	struct dirent *e;
	bool found = false;

	while (d && !found && (e = readdir(d))) {
		size_t len = strlen(e->d_name), tail = strlen(ends);

		found = strncmp(e->d_name, begins, strlen(begins)) == 0 && len >= tail &&
		        strcmp(e->d_name + len - tail, ends) == 0;
		if (found)
			snprintf(ret, size, "%s", e->d_name);
	}
	if (d)
		closedir(d);
	return found;
}

static struct sb__holds_shm *find_holds(void)
{
	struct sb__holds_shm *holds = NULL;
	char boot[256], name[256];
	unsigned slot, generation;
	int top = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), below, arena;

	must(top >= 0 && find_entry(top, "boot-", "", boot, sizeof(boot)), "the bridge's directory");
	below = open_below(top, boot);
	arena = open_below(below, "arena");
	must(arena >= 0 && find_entry(arena, "", ".holds", name, sizeof(name)), "a table of holds");
	must(sscanf(name, "%u.%u.holds", &slot, &generation) == 2, name);
	must(sb__holds_attach(arena, slot, generation, &holds) == 0, "the table of holds");
	close(arena);
	close(below);
	close(top);
	return holds;
}

static void count_hold(void *arg, uint64_t word)
{
	*(unsigned *)arg += word != 0;
}

static unsigned holds_of_all(struct sb__holds_shm *holds)
{
	unsigned n = 0;

	sb__holds_each(holds, count_hold, &n);
	return n;
}

/* Until fewer than n are held. The first look is late, and few are made: each takes the CPU from who dies and who tidies. */
static bool await_fewer_holds(struct sb__holds_shm *holds, unsigned n)
{
	struct timespec nap = { 0, 300000 };
	int64_t until_ns = now_ns() + 10000000000;

	do {
		nanosleep(&nap, NULL);
		nap.tv_nsec = 20000;
		if (holds_of_all(holds) < n)
			return true;
	} while (now_ns() < until_ns);
	return false;
}

static void kill_viewer(const struct factory *victims, struct order *order, bool reaper,
                        struct sb__holds_shm **holds, struct series *s)
{
	pid_t pid = factory_make(victims, order);
	int64_t killed_ns, ignored;
	uint64_t slice;
	unsigned n;

	if (!*holds)
		*holds = find_holds();
	n = holds_of_all(*holds);
	must(n > 0, "the victim holds nothing");
	/* Else it would see what was done only when whoever did it sleeps. */
	slice = sb__os_slice_shorten(SB__SLICE_WAITS_NS);
	usleep(reaper ? 300000 : 2000);
	killed_ns = now_ns();
	kill(pid, SIGKILL);
	if (await_fewer_holds(*holds, n))
		add(s, killed_ns, now_ns());
	else
		s->wrong++;
	sb__os_slice_restore(slice);
	receive(victims->answers, &ignored, sizeof(ignored));
}

static bool have_numpy(void)
{
	sb_bridge *bridge;
	sb_session *s;
	sb_ref ignored;
	bool yes;
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (sb_bridge_open(dir, NULL, &bridge))
			_exit(2);
		s = open_session(bridge, "numpy", 0, SB_DESIGNATED_SELF, 0);
		yes = s && as_ref(s, "numpy:zeros", NULL, sb_args("i", (int64_t)4), &ignored) == 0;
		sb_bridge_close(bridge);
		_exit(yes ? 0 : 1);
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool callers(const char *item, int kills, bool view, bool reaper)
{
	struct series s = series_begin(view ? "its hold is gone" : "the object of its ref is gone", kills);
	struct sb__holds_shm *holds = NULL;
	struct order order = { .view = view };
	struct factory host, victims;
	pid_t daemon = 0;
	int told[2];

	must(pipe2(told, O_CLOEXEC) == 0, "pipe");
	order.tell_fd = told[1];
	host = host_start(reaper ? "0" : NULL);
	victims = factory_start(victim_child);
	if (reaper)
		daemon = reaper_start();
	printf("%s: a caller is killed, watched by %s\n", item,
	       reaper ? "sb-reaper" : "the designated owner");
	if (view)
		host_order(&host, &order);
	for (int i = 0; i < kills; i++) {
		if (view) {
			kill_viewer(&victims, &order, reaper, &holds, &s);
		} else {
			order.number = i;
			kill_session_owner(&host, &victims, &order, told[0], reaper, &s);
		}
	}
	series_legend();
	series_show(&s);
	factory_stop(&victims);
	factory_stop(&host);
	if (daemon > 0)
		end_process(daemon);
	if (holds)
		sb__holds_detach(holds);
	close(told[0]);
	close(told[1]);
	return series_end(&s, NULL, item, 0.5, CALLER_TARGET_US);
}

/* ── all of it ── */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	return remove(path) && errno != ENOENT ? -1 : 0;
}

static void make_dir(void)
{
	snprintf(dir, sizeof(dir), "%s/death-notice-XXXXXX",
	         access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	must(mkdtemp(dir) != NULL, dir);
	maker = getpid();
}

static void remove_dir(void)
{
	if (getpid() == maker)
		nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static bool wanted(const char *only, const char *item)
{
	return !only || strcmp(only, item) == 0;
}

static bool measure(const char *only, int kills, int caller_kills, int mb)
{
	bool numpy = have_numpy(), ok = true;

	if (wanted(only, "small-owner"))
		ok &= owners("small-owner", kills, 0);
	if (wanted(only, "big-owner"))
		ok &= owners("big-owner", kills, mb);
	if (wanted(only, "caller-session"))
		ok &= callers("caller-session", caller_kills, false, false);
	if (wanted(only, "caller-session-reaper"))
		ok &= callers("caller-session-reaper", caller_kills, false, true);
	if (!numpy)
		printf("caller-hold: left out, the embedded Python has no NumPy\n");
	if (numpy && wanted(only, "caller-hold"))
		ok &= callers("caller-hold", caller_kills, true, false);
	if (numpy && wanted(only, "caller-hold-reaper"))
		ok &= callers("caller-hold-reaper", caller_kills, true, true);
	return ok;
}

static int usage(void)
{
	fprintf(stderr, "usage: death_notice [--kills N] [--callers N] [--mb MB] [--only NAME] "
	                "[--strict]\n");
	return 2;
}

int main(int argc, char **argv)
{
	int kills = 1000, caller_kills = 200, mb = 500;
	const char *only = NULL;
	bool ok;

	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (strcmp(argv[i], "--strict") == 0)
			strict = true;
		else if (!value)
			return usage();
		else if (strcmp(argv[i], "--kills") == 0)
			kills = atoi(argv[++i]);
		else if (strcmp(argv[i], "--callers") == 0)
			caller_kills = atoi(argv[++i]);
		else if (strcmp(argv[i], "--mb") == 0)
			mb = atoi(argv[++i]);
		else if (strcmp(argv[i], "--only") == 0)
			only = argv[++i];
		else
			return usage();
	}
	if (kills < 1 || caller_kills < 1 || mb < 0)
		return usage();
	make_dir();
	atexit(remove_dir);
	spin_elsewhere();
	ok = measure(only, kills, caller_kills, mb);
	if (spinner > 0)
		end_process(spinner);
	return ok ? 0 : 1;
}
