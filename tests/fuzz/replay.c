/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs one target over kept inputs: every file that is named, and every file of a directory that is named. Without
 * libFuzzer, so in every preset and with every compiler. Each input is also run cut short at a few places, which costs little and
 * is what a reader that trusts a length stumbles over.
 */
#include "fuzz.h"

#include <dirent.h>
#include <sys/stat.h>
#include <time.h>

#define CUTS 16u

static unsigned long inputs, runs;

static void run(const uint8_t *data, size_t len)
{
	/* A copy of exactly that length: what is read beyond it, a sanitizer sees. */
	uint8_t *copy = malloc(len ? len : 1);

	if (!copy)
		abort();
	if (len > 0)
		memcpy(copy, data, len);
	(void)LLVMFuzzerTestOneInput(copy, len);
	free(copy);
	runs++;
}

static int replay_file(const char *path)
{
	struct stat st;
	FILE *file = fopen(path, "rb");
	uint8_t *data = NULL;
	int failed = 1;

	if (!file || fstat(fileno(file), &st) != 0 || !S_ISREG(st.st_mode))
		goto out;
	data = malloc((size_t)st.st_size + 1);
	if (!data || fread(data, 1, (size_t)st.st_size, file) != (size_t)st.st_size)
		goto out;
	/* Said first: a crash is then known by its input. */
	fprintf(stderr, "%s\n", path);
	run(data, (size_t)st.st_size);
	for (size_t i = 1; i < CUTS && (size_t)st.st_size > CUTS; i++)
		run(data, (size_t)st.st_size * i / CUTS);
	inputs++;
	failed = 0;
out:
	if (failed)
		fprintf(stderr, "%s cannot be read\n", path);
	if (file)
		fclose(file);
	free(data);
	return failed;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int replay(const char *path)
{
	struct dirent **entries;
	struct stat st;
	int failed = 0, n;

	if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
		return replay_file(path);
	n = scandir(path, &entries, NULL, by_name);
	for (int i = 0; i < n; i++) {
		char name[4096];

		snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
		if (entries[i]->d_name[0] != '.')
			failed |= replay_file(name);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	return failed || n < 0;
}

int main(int argc, char **argv)
{
	struct timespec begun, ended;
	int failed = argc < 3;

	clock_gettime(CLOCK_MONOTONIC, &begun);
	run(NULL, 0);
	for (int i = 2; i < argc; i++)
		failed |= replay(argv[i]);
	clock_gettime(CLOCK_MONOTONIC, &ended);
	if (inputs == 0)
		failed = 1;
	printf("reliability: replay/%s tried=%lu failed=%d seconds=%.1f\n", argc > 1 ? argv[1] : "?", runs,
	       failed, (double)(ended.tv_sec - begun.tv_sec) + (double)(ended.tv_nsec - begun.tv_nsec) / 1e9);
	return failed;
}
