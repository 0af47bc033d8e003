\echo Use "CREATE EXTENSION reputation" to load this file. \quit

-- Whatever the script calls is found where nobody else can put anything: not in the
-- target schema, which CREATE EXTENSION has in its path. It ends with the script.
SET LOCAL search_path = pg_catalog, pg_temp;

-- Internals live in the schema reputation; the public functions go to the
-- extension's target schema.
CREATE SCHEMA reputation;
