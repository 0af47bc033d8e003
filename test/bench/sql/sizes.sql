-- What the extension's own tables have grown to, and what is alive in them.
SELECT format('inbox segments %s kB, job %s kB with %s rows, recent_run %s kB with %s rows',
	(SELECT string_agg(pages * current_setting('block_size')::int / 1024 || '', ' + ' ORDER BY segment)
	 FROM reputation.inbox_pages()),
	pg_total_relation_size('reputation.job') / 1024, (SELECT count(*) FROM reputation.job),
	pg_total_relation_size('reputation.recent_run') / 1024, (SELECT count(*) FROM reputation.recent_run));
