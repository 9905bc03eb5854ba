/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated accesses of shared words. Include atomics.h first. */
#ifndef SB_TESTS_SIM_WORDS_H
#define SB_TESTS_SIM_WORDS_H

/* in: the function that it is done in, by which a seeded mistake finds its place. */
uint64_t sim_load(const sb__word *w, const char *in);
void sim_store(sb__word *w, uint64_t v, const char *in);
bool sim_cas(sb__word *w, uint64_t old, uint64_t new, const char *in);
uint64_t sim_add(sb__word *w, uint64_t n, const char *in);
void sim_or(sb__word *w, uint64_t bits, const char *in);
void sim_and(sb__word *w, uint64_t bits, const char *in);
unsigned int sim_load32(const sb__word32 *w, const char *in);
void sim_store32(sb__word32 *w, unsigned int v, const char *in);
bool sim_cas32(sb__word32 *w, unsigned int old, unsigned int new, const char *in);
unsigned int sim_add32(sb__word32 *w, unsigned int n, const char *in);
void sim_barrier(const char *in);
void sim_pause(void);

void sim_words_late(void);  /* what a seeded mistake held back until its thread sleeps */
void sim_words_begin(void); /* a new world */

#endif
