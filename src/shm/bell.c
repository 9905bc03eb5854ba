/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The doorbell of a designated owner process. It says which sessions may have work and wakes the leader;
 * what the work is, it does not know.
 *
 * Locks: the alive mutex, held by the keeper thread for its life and never waited for; sleepers_lock, private, over no wait.
 *
 * Crash: a caller killed between two steps of ringing leaves at most a set bit, which the leader finds
 * empty, or a missing one, which hides only a request whose caller is dead (layout.h, law of the bits). A
 * killed owner: the kernel marks the alive word and wakes one waiter. The file stays until the reaper
 * unlinks it.
 */
#include "bell.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "fail.h"
#include "file.h"
#include "os_linux.h"
#include "point.h"

#define WHAT             "the doorbell"
#define BELL_SIZE        ((sizeof(struct sb__bell_shm) + SB__PAGE - 1) / SB__PAGE * SB__PAGE)
#define SUMMARY_WORDS    (SB__BELL_SESSIONS / 4096u)
#define STALE_WORDS_KEPT 4   /* summary bits without anything below that one look leaves set */
#define CLOCK_EVERY      32u /* spins between looks at the clock */

static const char magic[8] = { 'S', 'B', 'b', 'e', 'l', 'l', '0', '1' };

static void bell_name(char name[SB__FILE_NAME_MAX], uint32_t slot, uint32_t generation)
{
	snprintf(name, SB__FILE_NAME_MAX, "%" PRIu32 ".%" PRIu32, slot, generation);
}

/* ── making and mapping ── */

static int init_alive(pthread_mutex_t *mutex)
{
	pthread_mutexattr_t attr;
	int err = pthread_mutexattr_init(&attr);

	if (err)
		return err;
	err = pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	if (!err)
		err = pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	if (!err)
		err = pthread_mutex_init(mutex, &attr);
	pthread_mutexattr_destroy(&attr);
	return err;
}

static void bell_init(struct sb__bell *bell, struct sb__bell_shm *shm, const struct sb__identity *owner,
                      bool mine)
{
	*bell = (struct sb__bell){
		.shm = shm, .owner = *owner, .mine = mine, .sleepers_lock = PTHREAD_MUTEX_INITIALIZER
	};
}

static void write_header(struct sb__bell_shm *shm, const struct sb__identity *owner)
{
	memcpy(shm->magic, magic, sizeof(magic));
	shm->version = SB__LAYOUT_VERSION;
	shm->fingerprint = sb__layout_fingerprint();
	shm->owner = *owner;
}

int sb__bell_create(int bell_dir, const struct sb__identity *self, struct sb__bell *ret)
{
	char name[SB__FILE_NAME_MAX];
	struct sb__new_file file;
	struct sb__bell_shm *shm;
	int err = sb__file_make(bell_dir, self->slot, self->generation, BELL_SIZE, WHAT, &file);

	if (err)
		return err;
	shm = file.map;
	write_header(shm, self);
	sb__store32(&shm->leader_cpu, UINT_MAX);
	sb__store32(&shm->ringer_cpu, UINT_MAX);
	(void)init_alive(&shm->alive); /* without it sb__bell_alive_hold() fails, and callers ask instead */
	bell_name(name, self->slot, self->generation);
	SB_POINT("bell.made");
	err = sb__file_publish(&file, name, WHAT);
	if (err)
		return err;
	SB_POINT("bell.published");
	bell_init(ret, shm, self, true);
	return 0;
}

/* Everybody but the owner only reads the first page (layout.h). */
static int shield(struct sb__bell_shm *shm)
{
	int err = sb__os_map_shield(shm, SB__PAGE);

	return err < 0 ? sb__file_fail(err, "mapped", WHAT) : 0;
}

/* The header is a claim like all that is in shared files; the copy is what we go by. */
static int check_header(const struct sb__bell_shm *shm, uint32_t slot, uint32_t generation,
                        struct sb__identity *ret)
{
	*ret = shm->owner;
	ret->program[sizeof(ret->program) - 1] = '\0';
	if (memcmp(shm->magic, magic, sizeof(magic)) != 0)
		return sb__fail(SB_EPROTOCOL, "bell/%" PRIu32 ".%" PRIu32 " is not a doorbell", slot,
		                generation);
	if (shm->version != SB__LAYOUT_VERSION || shm->fingerprint != sb__layout_fingerprint())
		return sb__fail(SB_EVERSION,
		                "the doorbell of process slot %" PRIu32 " has layout %" PRIu32 "/%08" PRIx32
		                ", this library %" PRIu32 "/%08" PRIx32 ": use the same version everywhere",
		                slot, shm->version, shm->fingerprint, SB__LAYOUT_VERSION,
		                sb__layout_fingerprint());
	if (ret->slot != slot || ret->generation != generation)
		return sb__fail(SB_EPROTOCOL,
		                "bell/%" PRIu32 ".%" PRIu32 " says that it is of process slot %" PRIu32
		                ".%" PRIu32,
		                slot, generation, ret->slot, ret->generation);
	return 0;
}

int sb__bell_attach(int bell_dir, uint32_t slot, uint32_t generation, struct sb__bell *ret)
{
	struct sb__identity owner;
	char name[SB__FILE_NAME_MAX];
	void *map;
	int fd, err;

	bell_name(name, slot, generation);
	fd = sb__os_open_own(bell_dir, name, O_RDWR, 0);
	if (fd == -ENOENT)
		return sb__fail(SB_EOWNERDIED,
		                "the designated owner in process slot %" PRIu32 " is gone: there is no "
		                "doorbell bell/%s",
		                slot, name);
	if (fd < 0)
		return sb__file_fail(fd, "opened", WHAT);
	err = sb__file_map(fd, 0, BELL_SIZE, true, WHAT, &map);
	(void)sb__os_close(fd);
	if (err)
		return err;
	err = shield(map);
	if (!err)
		err = check_header(map, slot, generation, &owner);
	if (err) {
		(void)sb__os_unmap(map, BELL_SIZE);
		return err;
	}
	bell_init(ret, map, &owner, false);
	return 0;
}

void sb__bell_detach(struct sb__bell *bell)
{
	if (bell->shm)
		(void)sb__os_unmap(bell->shm, BELL_SIZE);
	bell->shm = NULL;
}

void sb__bell_inherited(struct sb__bell *bell)
{
	if (bell->shm)
		(void)sb__os_map_shield(bell->shm, SB__PAGE);
}

int sb__bell_unlink(int bell_dir, uint32_t slot, uint32_t generation)
{
	char name[SB__FILE_NAME_MAX];
	int err;

	bell_name(name, slot, generation);
	err = sb__os_unlinkat(bell_dir, name, 0);
	return err < 0 && err != -ENOENT ? sb__file_fail(err, "removed", WHAT) : 0;
}

/* ── the alive word ── */

/* glibc's mutex begins with its lock word, the kernel's robust futex. Whether that is so is checked when it
 * is held. */
static sb__word32 *lock_word(const struct sb__bell *bell)
{
	return (sb__word32 *)&bell->shm->alive;
}

int sb__bell_alive_hold(struct sb__bell *bell)
{
	unsigned int tid = (unsigned int)sb__os_tid();
	sb__word32 *word = lock_word(bell);
	int err = pthread_mutex_trylock(&bell->shm->alive); /* nobody else ever takes it: never wait */

	if (err)
		return sb__fail_errno(SB_ESYSTEM, err, "the doorbell's alive mutex cannot be taken");
	/* Set by hand, for no waiter ever goes through the mutex; with it the kernel wakes at death, and
	 * unlocking wakes. */
	if (!sb__cas32(word, tid, tid | FUTEX_WAITERS)) {
		pthread_mutex_unlock(&bell->shm->alive);
		return sb__fail(
			SB_ESYSTEM,
			"this C library keeps the owner of a robust mutex elsewhere: callers will learn "
			"of this process's death by asking");
	}
	bell->held = true;
	SB_POINT("bell.held");
	return 0;
}

void sb__bell_mend(struct sb__bell *bell)
{
	unsigned int right = (unsigned int)sb__os_tid() | FUTEX_WAITERS;

	if (bell->held && sb__load32(lock_word(bell)) != right)
		sb__store32(lock_word(bell), right);
	write_header(bell->shm, &bell->owner);
}

void sb__bell_alive_release(struct sb__bell *bell)
{
	if (!bell->held)
		return;
	bell->held = false;
	pthread_mutex_unlock(&bell->shm->alive);
	sb__bell_pass_on(bell);
}

bool sb__bell_owner_died(const struct sb__bell *bell)
{
	return sb__load32(lock_word(bell)) & FUTEX_OWNER_DIED;
}

sb__word32 *sb__bell_alive_word(struct sb__bell *bell, unsigned int *ret_expected)
{
	unsigned int value = sb__load32(lock_word(bell));

	if (!(value & FUTEX_TID_MASK) || !(value & FUTEX_WAITERS) || (value & FUTEX_OWNER_DIED))
		return NULL;
	*ret_expected = value;
	return lock_word(bell);
}

void sb__bell_pass_on(struct sb__bell *bell)
{
	(void)sb__os_futex_wake((unsigned int *)lock_word(bell), INT_MAX);
}

/* ── ringing ── */

/* Sets a bit unless it is read as set; why that is enough: layout.h, law of the bits. */
static void set_bit(sb__word *word, uint64_t bit)
{
	if (!(sb__load_acquire(word) & bit))
		sb__or(word, bit);
}

bool sb__bell_ring(struct sb__bell *bell, uint32_t session_index)
{
	struct sb__bell_shm *shm = bell->shm;
	uint32_t word = session_index / 64 % (SB__BELL_SESSIONS / 64);
	unsigned int cpu = (unsigned int)sb__os_cpu();

	set_bit(&shm->sessions[word], UINT64_C(1) << (session_index % 64));
	SB_POINT("bell.bit");
	set_bit(&shm->summary[word / 64], UINT64_C(1) << (word % 64));
	SB_POINT("bell.summary");
	if (sb__load32(&shm->ringer_cpu) != cpu)
		sb__store32(&shm->ringer_cpu, cpu);
	if (!sb__load32(&shm->parked))
		return false;
	sb__store(&shm->rung_ns, sb__now_ns());
	sb__add32(&shm->bell, 1);
	SB_POINT("bell.rung");
	(void)sb__os_futex_wake((unsigned int *)&shm->bell, INT_MAX);
	return true;
}

void sb__bell_nudge(struct sb__bell *bell)
{
	sb__add32(&bell->shm->standby, 1);
	SB_POINT("bell.nudged");
	(void)sb__os_futex_wake((unsigned int *)&bell->shm->standby, 1);
}

/* ── the owner's threads ── */

/* The first bit of word at or after from; -1 if there is none. */
static int bit_from(uint64_t word, unsigned from)
{
	word &= from < 64 ? ~UINT64_C(0) << from : 0;
	return word ? __builtin_ctzll(word) : -1;
}

/* Clears a summary bit whose sessions have no work; puts it back if one has by now. */
static void clear_stale(struct sb__bell_shm *shm, unsigned word)
{
	uint64_t bit = UINT64_C(1) << (word % 64);

	sb__and(&shm->summary[word / 64], ~bit);
	SB_POINT("bell.cleared");
	if (sb__load_acquire(&shm->sessions[word]))
		sb__or(&shm->summary[word / 64], bit);
}

/* The next word of session bits at or after from that is not empty, wherever in [from, end); -1 if there is
 * none. Summary bits above nothing are left set (so that busy callers need not set them again) unless they
 * are many. */
static int next_word(struct sb__bell_shm *shm, unsigned from, unsigned end, unsigned *stale)
{
	for (unsigned w = from; w < end;) {
		uint64_t summary = sb__load_acquire(&shm->summary[w / 64]);
		int bit = bit_from(summary, w % 64);

		if (bit < 0) {
			w = (w / 64 + 1) * 64;
			continue;
		}
		w = w / 64 * 64 + (unsigned)bit;
		if (w >= end)
			return -1;
		if (sb__load_acquire(&shm->sessions[w]))
			return (int)w;
		if (++*stale > STALE_WORDS_KEPT)
			clear_stale(shm, w);
		w++;
	}
	return -1;
}

int sb__bell_take(struct sb__bell *bell, uint32_t *cursor)
{
	struct sb__bell_shm *shm = bell->shm;
	const unsigned words = SB__BELL_SESSIONS / 64;
	uint32_t at = *cursor % SB__BELL_SESSIONS;
	unsigned first = at / 64, stale = 0;
	int bit = bit_from(sb__load_acquire(&shm->sessions[first]), at % 64);
	int word = (int)first;

	if (bit < 0) {
		word = next_word(shm, first + 1, words, &stale);
		if (word < 0)
			word = next_word(shm, 0, first + 1, &stale);
		if (word < 0)
			return -1;
		bit = bit_from(sb__load_acquire(&shm->sessions[word]), 0);
		if (bit < 0) /* another thread took it */
			return -1;
	}
	sb__and(&shm->sessions[word], ~(UINT64_C(1) << bit));
	SB_POINT("bell.taken");
	at = (uint32_t)word * 64 + (uint32_t)bit;
	*cursor = at + 1;
	return (int)at;
}

bool sb__bell_waiting(struct sb__bell *bell)
{
	unsigned stale = 0;

	return next_word(bell->shm, 0, SB__BELL_SESSIONS / 64, &stale) >= 0;
}

/* Spins for at most spin_ns; false: nothing came. */
static bool spin_for_work(struct sb__bell *bell, uint64_t spin_ns)
{
	uint64_t begun = 0;

	for (unsigned i = 1;; i++) {
		if (sb__bell_waiting(bell) || __atomic_load_n(&bell->ending, __ATOMIC_RELAXED))
			return true;
		sb__pause();
		if (i % CLOCK_EVERY == 0) {
			uint64_t now = sb__now_ns();

			if (!begun)
				begun = now;
			else if (now - begun >= spin_ns)
				return false;
		}
	}
}

/* Lets whoever rings, and is on this CPU, run. False also if that took as long as others here wanted. */
static bool yield_for_work(struct sb__bell *bell)
{
	uint64_t begun = sb__now_ns();

	sb__os_yield();
	return sb__bell_waiting(bell) && sb__now_ns() - begun <= SB__SPIN_NS;
}

bool sb__bell_others(const struct sb__bell *bell, uint32_t session_index)
{
	struct sb__bell_shm *shm = bell->shm;

	for (unsigned i = 0; i < SUMMARY_WORDS; i++)
		for (uint64_t bits = sb__load_acquire(&shm->summary[i]); bits; bits &= bits - 1) {
			unsigned w = i * 64 + (unsigned)__builtin_ctzll(bits);
			uint64_t own = w == session_index / 64 ? UINT64_C(1) << (session_index % 64) : 0;

			if (sb__load_acquire(&shm->sessions[w]) & ~own)
				return true;
		}
	return false;
}

bool sb__bell_placed(struct sb__bell *bell)
{
	unsigned int cpu = (unsigned int)sb__os_cpu();

	if (sb__load32(&bell->shm->leader_cpu) != cpu)
		sb__store32(&bell->shm->leader_cpu, cpu);
	return sb__load32(&bell->shm->ringer_cpu) != cpu;
}

/* Looks for work for a while without sleeping. */
static bool stay_awake(struct sb__bell *bell, uint64_t spin_ns)
{
	bool elsewhere = sb__bell_placed(bell);

	if (!sb__spin_try(&bell->spin))
		return false;
	/* On the CPU of whoever rings, our spinning is what keeps it from ringing. */
	return elsewhere ? spin_for_work(bell, spin_ns) : yield_for_work(bell);
}

/* A leader that lost the lead in its sleep and the one that took it may sleep at once: parked stands until both are awake,
 * and a ring wakes both, so that the old one's waking hides nothing from callers and takes no ring from the new one. */
static void count_sleeper(struct sb__bell *bell, int more)
{
	pthread_mutex_lock(&bell->sleepers_lock);
	bell->sleepers += more;
	sb__store32(&bell->shm->parked, bell->sleepers > 0);
	pthread_mutex_unlock(&bell->sleepers_lock);
}

/* Waits on the futex. Pairs with sb__bell_ring(): it sets bits, then reads parked; here parked is set, then
 * the bits are read, each with a full barrier between. So either we see its bit, or it sees us parked and
 * changes bell, which we read before. */
static bool park(struct sb__bell *bell, uint64_t timeout_ns)
{
	struct sb__bell_shm *shm = bell->shm;
	unsigned int seen = sb__load32(&shm->bell);
	bool work;

	count_sleeper(bell, 1);
	SB_POINT("bell.parked");
	sb__barrier();
	for (unsigned i = 0; i < SUMMARY_WORDS; i++)
		for (uint64_t bits = sb__load_acquire(&shm->summary[i]); bits; bits &= bits - 1)
			clear_stale(shm, i * 64 + (unsigned)__builtin_ctzll(bits));
	work = sb__bell_waiting(bell) || __atomic_load_n(&bell->ending, __ATOMIC_SEQ_CST);
	if (!work) {
		(void)sb__os_futex_wait((unsigned int *)&shm->bell, seen, timeout_ns);
		work = sb__bell_waiting(bell) || sb__load32(&shm->bell) != seen;
	}
	count_sleeper(bell, -1);
	SB_POINT("bell.awake");
	return work;
}

bool sb__bell_sleep(struct sb__bell *bell, uint64_t timeout_ns, uint64_t spin_ns)
{
	uint64_t idle_ns;
	bool work;

	if (sb__bell_waiting(bell))
		return true;
	if (spin_ns == 0)
		return park(bell, timeout_ns);
	if (stay_awake(bell, spin_ns)) {
		sb__spin_paid(&bell->spin);
		return true;
	}
	idle_ns = sb__now_ns();
	work = park(bell, timeout_ns);
	/* Learn from when the ring came, not from when we woke: waking may take longer than a whole busy pause
	 * lasts, and then both sides would go on waking each other for ever where both could spin. */
	if (sb__load(&bell->shm->rung_ns) - idle_ns <= spin_ns / 2)
		sb__spin_paid(&bell->spin);
	else
		sb__spin_failed(&bell->spin);
	return work;
}

bool sb__bell_standby(struct sb__bell *bell, uint64_t timeout_ns)
{
	unsigned int seen = __atomic_load_n(&bell->nudges_seen, __ATOMIC_ACQUIRE);
	unsigned int now = sb__load32(&bell->shm->standby);

	if (now == seen && !__atomic_load_n(&bell->ending, __ATOMIC_SEQ_CST)) {
		(void)sb__os_futex_wait((unsigned int *)&bell->shm->standby, seen, timeout_ns);
		now = sb__load32(&bell->shm->standby);
	}
	/* Many callers nudge about one hung leader: whoever gets the number first answers all of them. */
	return now != seen && __atomic_compare_exchange_n(&bell->nudges_seen, &seen, now, false,
	                                                  __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

void sb__bell_wake_all(struct sb__bell *bell)
{
	__atomic_store_n(&bell->ending, true, __ATOMIC_SEQ_CST);
	sb__add32(&bell->shm->bell, 1);
	sb__add32(&bell->shm->standby, 1);
	(void)sb__os_futex_wake((unsigned int *)&bell->shm->bell, INT_MAX);
	(void)sb__os_futex_wake((unsigned int *)&bell->shm->standby, INT_MAX);
}
