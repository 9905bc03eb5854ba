/* SPDX-License-Identifier: Apache-2.0 */
/* SnakeBridge: sessions of live Python objects, shared by cooperating processes. */
#ifndef SNAKEBRIDGE_H
#define SNAKEBRIDGE_H

#include "snakebridge/array.h"
#include "snakebridge/async.h"
#include "snakebridge/bridge.h"
#include "snakebridge/builder.h"
#include "snakebridge/call.h"
#include "snakebridge/callback.h"
#include "snakebridge/config.h"
#include "snakebridge/error.h"
#include "snakebridge/exchange.h"
#include "snakebridge/owner.h"
#include "snakebridge/ref.h"
#include "snakebridge/session.h"
#include "snakebridge/stream.h"
#include "snakebridge/value.h"
#include "snakebridge/visibility.h"

#endif
