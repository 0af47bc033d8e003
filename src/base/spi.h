/*
 * spi.h
 *		The one way to the executor: cached plans, parameters, planner settings.
 */
#ifndef REPUTATION_SPI_H
#define REPUTATION_SPI_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "executor/spi.h"
#include "utils/guc.h"
#include "utils/resowner.h"

extern void spi_begin(void);
extern void spi_end(void);

/* A read that leaves no lock behind. */
typedef struct SpiReader
{
	ResourceOwner outer;
	ResourceOwner own;
} SpiReader;

extern void spi_reader_begin(SpiReader *reader);
extern void spi_reader_end(SpiReader *reader);
extern SPIPlanPtr spi_plan(const char *sql, int nargs, const Oid *types);
extern uint64 spi_exec(const char *sql, int nargs, const Oid *types, const Datum *values,
					   const char *nulls);
extern uint64 spi_read(const char *sql, int nargs, const Oid *types, const Datum *values,
					   const char *nulls);
typedef void (*SpiRow) (TupleTableSlot *slot, void *arg);

extern void spi_read_each(const char *sql, int nargs, const Oid *types, const Datum *values,
						  SpiRow row, void *arg);
extern uint64 spi_read_latest(const char *sql, int nargs, const Oid *types, const Datum *values,
							  const char *nulls);
extern uint64 spi_once(const char *sql, int nargs, const Oid *types, const Datum *values,
					   const char *nulls);
extern void spi_utility(const char *sql);

extern char *spi_text(uint64 row, int column);
extern int64 spi_int(uint64 row, int column, bool *isnull);
extern Datum spi_datum(uint64 row, int column, bool *isnull);

extern int	spi_settings_begin(void);
extern void spi_set(const char *name, const char *value);
extern void spi_prefer_indexes(void);
extern void spi_settings_end(int level);

extern Datum text_array(char **texts, int count);
extern List *spi_oids(uint64 count);
extern Datum int_array(const int32 *values, int count);
extern Datum bigint_array(const int64 *values, int count);
extern Datum timestamp_array(const TimestampTz *values, int count);
extern Datum smallint_array(const int16 *values, int count);
extern Datum bool_array(const bool *values, int count);

#endif							/* REPUTATION_SPI_H */
