-- Retention: a payload goes once a record says so; its digest, its length and the chain stay.

-- As every writer does, first the journal's end: so the two wait for each other in one order.
LOCK TABLE journal_head IN ACCESS EXCLUSIVE MODE;
-- Up to where retention has looked at received alerts.
ALTER TABLE journal_head ADD COLUMN received_retained bigint NOT NULL DEFAULT 0;

ALTER TABLE journal ALTER COLUMN payload DROP NOT NULL;
-- The length of a payload that is gone; null as long as it is there.
ALTER TABLE journal ADD COLUMN payload_bytes integer;
-- What is dropped is a small part of all that ever was: by the usual fifth of it the space would come back too late.
ALTER TABLE journal SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

-- Records that a retention record gives up and whose payloads are still there.
CREATE TABLE payloads_given_up (
    first_sequence bigint PRIMARY KEY,
    last_sequence bigint NOT NULL,
    -- The retention record.
    retention bigint NOT NULL
);

-- `incidents_place` has the same order.
DROP INDEX incidents_created_at;
CREATE INDEX incidents_closed ON incidents (updated_at) WHERE status = 'closed';
