/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SNAKEBRIDGE_VISIBILITY_H
#define SNAKEBRIDGE_VISIBILITY_H

/* SB_API marks what the shared library exports; everything else is hidden. */
#if defined(__GNUC__)
#define SB_API                     __attribute__((visibility("default")))
#define SB_PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))
#else
#define SB_API
#define SB_PRINTF_LIKE(fmt, first)
#endif

#define SB_VERSION_MAJOR  0
#define SB_VERSION_MINOR  1
#define SB_VERSION_PATCH  0
#define SB_VERSION_STRING "0.1.0"

#endif
