-- The journal is the truth; all other tables follow from it and are changed in the same transaction.
CREATE TABLE journal (
    sequence bigint PRIMARY KEY,
    kind smallint NOT NULL,
    flags smallint NOT NULL,
    at timestamptz NOT NULL,
    payload bytea NOT NULL,
    payload_digest bytea NOT NULL,
    chain_hash bytea NOT NULL
);
CREATE INDEX journal_received ON journal (sequence) WHERE kind = 1;

-- One row. Whoever writes to the journal locks it first, so that all writers stand in one order.
CREATE TABLE journal_head (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    journal_id uuid NOT NULL,
    sequence bigint NOT NULL,
    chain_hash bytea NOT NULL,
    -- Up to where correlation is done.
    correlated bigint NOT NULL,
    -- The site's switches, JSON.
    site text NOT NULL
);

CREATE TABLE incidents (
    id uuid PRIMARY KEY,
    alert_name text NOT NULL,
    priority text NOT NULL,
    status text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    resolved_at timestamptz,
    summary text NOT NULL,
    description text NOT NULL,
    diagnostics jsonb,
    remediation_actions jsonb NOT NULL,
    phase text NOT NULL,
    revision bigint NOT NULL,
    -- Creation and id as bytes that sort as lists do, the newest first; times above are cut to microseconds.
    place bytea NOT NULL,
    -- The row of lists, JSON.
    list_row text NOT NULL,
    -- Of the journal's record with the last events.
    chain_hash bytea NOT NULL,
    -- The newest version among its events.
    event_version integer NOT NULL
);
CREATE INDEX incidents_place ON incidents (place);
CREATE INDEX incidents_status ON incidents (status, priority, place);
CREATE INDEX incidents_priority ON incidents (priority, place);
CREATE INDEX incidents_created_at ON incidents (created_at);
CREATE INDEX incidents_unfinished ON incidents (priority, place DESC) WHERE status <> 'closed';

-- One row for each append: the journal's record with the events from this revision on.
CREATE TABLE incident_events (
    incident_id uuid NOT NULL,
    revision bigint NOT NULL,
    events integer NOT NULL,
    sequence bigint NOT NULL UNIQUE,
    PRIMARY KEY (incident_id, revision)
);

-- The newest incident of each alert.
CREATE TABLE alerts (
    source text NOT NULL,
    fingerprint text NOT NULL,
    incident_id uuid NOT NULL,
    place bytea NOT NULL,
    PRIMARY KEY (source, fingerprint)
);

CREATE TABLE messages (
    -- Of caller, tenant and message, which may have any length.
    key bytea PRIMARY KEY,
    caller text NOT NULL,
    tenant text NOT NULL,
    message_id text NOT NULL,
    incident_id uuid NOT NULL,
    content_digest text NOT NULL
);

CREATE TABLE locks (
    target text PRIMARY KEY,
    token bigint NOT NULL,
    holder uuid
);

CREATE TABLE cool_downs (
    -- Of class, target and runbook.
    key bytea PRIMARY KEY,
    class text NOT NULL,
    target text NOT NULL,
    runbook text NOT NULL,
    until timestamptz NOT NULL,
    -- The same, exact, JSON.
    document text NOT NULL
);
CREATE INDEX cool_downs_target ON cool_downs (target);

CREATE TABLE coordinators (
    id uuid PRIMARY KEY,
    until timestamptz NOT NULL
);

-- Work is the id of an incident, or the nil id for correlation.
CREATE TABLE leases (
    work uuid PRIMARY KEY,
    coordinator uuid NOT NULL REFERENCES coordinators ON DELETE CASCADE,
    token bigint NOT NULL
);
CREATE INDEX leases_coordinator ON leases (coordinator);
CREATE SEQUENCE lease_tokens;

-- Claims are functions, so that a coordinator that stops in the middle of one does not hold up the others: they are one statement
-- without the client. Within, each statement sees what was committed before it, which needs the lock to have been taken first.
CREATE FUNCTION begin_claim(claimer uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(5929376018344402001);
    PERFORM 1 FROM coordinators c WHERE c.id = claimer AND c.until > clock_timestamp() FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'coordinator % has not renewed in time', claimer USING ERRCODE = 'QL001';
    END IF;
END $$;

CREATE FUNCTION take_leases(claimer uuid, wanted uuid[]) RETURNS TABLE (leased_work uuid, leased_token bigint)
LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
        INSERT INTO leases AS l (work, coordinator, token)
        SELECT w.work, claimer, nextval('lease_tokens')
        FROM (SELECT u.work FROM unnest(wanted) WITH ORDINALITY AS u (work, place) GROUP BY u.work ORDER BY min(u.place)) AS w
        ON CONFLICT (work) DO UPDATE
        SET coordinator = claimer,
            token = CASE WHEN l.coordinator = claimer THEN l.token ELSE excluded.token END
        WHERE l.coordinator = claimer
            OR NOT EXISTS (SELECT FROM coordinators c WHERE c.id = l.coordinator AND c.until > clock_timestamp())
        RETURNING l.work, l.token;
END $$;

CREATE FUNCTION claim_work(claimer uuid, wanted uuid[]) RETURNS TABLE (leased_work uuid, leased_token bigint)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM begin_claim(claimer);
    RETURN QUERY SELECT * FROM take_leases(claimer, wanted);
END $$;

CREATE FUNCTION claim_unfinished(claimer uuid, leases_max bigint, event_version_max integer)
RETURNS TABLE (leased_work uuid, leased_token bigint) LANGUAGE plpgsql AS $$
DECLARE
    free uuid[];
BEGIN
    PERFORM begin_claim(claimer);
    -- The dead are kept for a while for whoever looks into it; their leases are free anyway.
    DELETE FROM coordinators c WHERE c.until < clock_timestamp() - interval '1 day';
    SELECT array_agg(f.id ORDER BY f.priority, f.place DESC) INTO free FROM (
        SELECT i.id, i.priority, i.place FROM incidents i
        WHERE i.status <> 'closed' AND i.event_version <= event_version_max
            AND NOT EXISTS (
                SELECT FROM leases l JOIN coordinators c ON c.id = l.coordinator
                WHERE l.work = i.id AND c.until > clock_timestamp()
            )
        ORDER BY i.priority, i.place DESC LIMIT leases_max
    ) AS f;
    RETURN QUERY SELECT * FROM take_leases(claimer, coalesce(free, '{}'));
END $$;
