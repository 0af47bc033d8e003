/*
 * reputation_json.h
 *		What user_reputation() gives, as jsonb.
 */
#ifndef REPUTATION_JSON_H
#define REPUTATION_JSON_H

#include "engines/session/user_reputation.h"
#include "utils/jsonb.h"

extern Jsonb *reputation_json(const CachedReputation *value);

#endif							/* REPUTATION_JSON_H */
