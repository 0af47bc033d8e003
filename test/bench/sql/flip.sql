-- Makes the :due users due, each by one change that changes its score.
UPDATE projects SET status = CASE status WHEN 'shipped' THEN 'active' ELSE 'shipped' END
WHERE id > :projects - :due;
