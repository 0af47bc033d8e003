/*
 * ledger.h
 *		The ledger's rows and the badges of a user whose row goes.
 */
#ifndef REPUTATION_LEDGER_H
#define REPUTATION_LEDGER_H

extern void ledger_init(void);

#endif							/* REPUTATION_LEDGER_H */
