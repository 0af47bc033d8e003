/*
 * worker.h
 *		The background worker that drains one database's work.
 */
#ifndef REPUTATION_WORKER_H
#define REPUTATION_WORKER_H

#include "postgres.h"

/* main_arg: the index of its WorkerSlot in shared memory. */
extern PGDLLEXPORT void reputation_worker_main(Datum main_arg);

#endif							/* REPUTATION_WORKER_H */
