\echo Use "CREATE EXTENSION reputation" to load this file. \quit

-- Internals live in the schema reputation; the public functions go to the
-- extension's target schema.
CREATE SCHEMA reputation;
