/*
 * trust.h
 *		The trust score's formula, its badges, and when either changes. Pure C.
 */
#ifndef REPUTATION_CORE_TRUST_H
#define REPUTATION_CORE_TRUST_H

#include <stdbool.h>
#include <stdint.h>

/* Times are microseconds from any origin; this one never comes. */
#define TRUST_NEVER INT64_MAX

/* Times further away than this are taken for this. */
#define TRUST_FAR INT64_C(4000000000000000000)

/* The weights; the defaults are trust_default_weights(). */
typedef struct TrustWeights
{
	double		profile;		/* weights of the three sub-scores */
	double		verification;
	double		activity;

	double		photo;			/* points of the profile */
	double		bio;			/* of one with bio_full characters */
	double		bio_full;
	double		interests;		/* of interests_full of them */
	double		interests_full;
	double		name;
	double		birthdate;
	double		location;
	double		job;

	double		email_verified; /* points of the verification */
	double		phone_verified;
	double		photo_verified;
	double		id_verified;

	double		activity_full;	/* events that give the whole activity */
	double		activity_days;	/* for so long an event counts */

	double		grace_days;		/* idle days without decay */
	double		half_life_days; /* of the score after that */
	double		decay_min;

	double		complete_profile;	/* what the badges take */
	double		active_activity;
	double		active_days;
	double		trusted_score;
	double		new_days;
} TrustWeights;

typedef struct TrustSignals
{
	bool		photo;
	bool		name;
	bool		birthdate;
	bool		location;
	bool		job;
	int64_t		bio;			/* characters */
	int64_t		interests;		/* number of */
	bool		email_verified;
	bool		phone_verified;
	bool		photo_verified;
	bool		id_verified;
	bool		has_source;		/* is there a source of activity events? */
	int64_t		events;			/* in the last activity_days */
	int64_t		oldest_event;	/* of those; TRUST_NEVER: none */
	int64_t		next_event;		/* the first one still to come; TRUST_NEVER: none */
	bool		has_last_active;
	int64_t		last_active;
	bool		has_created;
	int64_t		created;
} TrustSignals;

/* Badges, as bits; trust_badge_name() has their names. */
#define TRUST_VERIFIED	1
#define TRUST_COMPLETE	2
#define TRUST_ACTIVE	4
#define TRUST_TRUSTED	8
#define TRUST_NEW		16
#define TRUST_BADGES	5		/* how many there are */

typedef struct TrustResult
{
	double		profile;		/* 0 .. 100 */
	double		verification;
	double		activity;
	double		decay;			/* decay_min .. 1 */
	double		points;			/* before rounding */
	int32_t		score;			/* 0 .. 100 */
	unsigned	badges;
} TrustResult;

extern TrustWeights trust_default_weights(void);
extern TrustResult trust_compute(const TrustWeights *weights, const TrustSignals *signals,
								 int64_t now);
extern int64_t trust_next_due(const TrustWeights *weights, const TrustSignals *signals,
							  int64_t now);
extern double trust_idle_days(const TrustSignals *signals, int64_t now);
extern const char *trust_badge_name(int number);

#endif							/* REPUTATION_CORE_TRUST_H */
