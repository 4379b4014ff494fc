-- A journal that came from a data folder may note that records were lost there. Locks are then taken with tokens above this one, since an
-- agent may have seen tokens that stood in the lost records.

-- As every writer does, first the journal's end: so the two wait for each other in one order.
LOCK TABLE journal_head IN ACCESS EXCLUSIVE MODE;
ALTER TABLE journal_head ADD COLUMN tokens_above bigint NOT NULL DEFAULT 0;
