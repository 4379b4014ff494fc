-- What is too large for an event, such as the evidence of a diagnosis. It goes with its incident.
CREATE TABLE documents (
    incident_id uuid NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
    digest bytea NOT NULL,
    document bytea NOT NULL,
    PRIMARY KEY (incident_id, digest)
);
-- It is compressed when it comes.
ALTER TABLE documents ALTER COLUMN document SET STORAGE EXTERNAL;

-- What was changed on purpose at this site, as others told it.
CREATE TABLE changes (
    digest bytea PRIMARY KEY,
    at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    record jsonb NOT NULL
);
CREATE INDEX changes_at ON changes (at);
