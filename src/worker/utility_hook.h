/*
 * utility_hook.h
 *		Keeps workers out of the way of statements on whole databases.
 */
#ifndef REPUTATION_UTILITY_HOOK_H
#define REPUTATION_UTILITY_HOOK_H

extern void utility_hook_init(void);

#endif							/* REPUTATION_UTILITY_HOOK_H */
