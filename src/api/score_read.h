/*
 * score_read.h
 *		A user's stored score, read through the index of the users' key.
 */
#ifndef REPUTATION_SCORE_READ_H
#define REPUTATION_SCORE_READ_H

#include "engine/engine.h"

extern bool score_read(const Engine *engine, const char *key, bool *exists, int32 *score);

#endif							/* REPUTATION_SCORE_READ_H */
