-- Who is told of alerts outside of our own viewers: Slack, webhooks, e-mail. The channel is the outbox; a destination is a
-- position in it. Times as everywhere.

-- One row for each destination that any worker was ever set to deliver to: `slack`, `email`, `webhook:<digest of its URL>`.
CREATE TABLE notification_destinations (
  destination     text PRIMARY KEY,
  channel         text NOT NULL,
  -- Of the channel, when the position was taken.
  epoch           text NOT NULL,
  -- Everything up to here is decided: told, passed over, or a dead letter.
  position        bigint NOT NULL,
  -- Who delivers. Each taking raises the fence, and no write counts under an older one.
  owner           text,
  fence           bigint NOT NULL DEFAULT 0,
  lease_until     bigint NOT NULL DEFAULT 0,
  -- When somebody last held it: a destination that nobody is set to deliver to any more is forgotten.
  held_at         bigint NOT NULL DEFAULT now_ms(),
  -- The retry: failures in a row, and when the next try is due.
  attempts        integer NOT NULL DEFAULT 0,
  not_before      bigint NOT NULL DEFAULT 0,
  last_error      text,
  last_error_at   bigint,
  last_sent_at    bigint,
  -- When the last summary of hosts was due.
  summary_at      bigint,
  -- Counts since the row is there: messages told, became dead letters, were no longer kept when it was their turn; dead
  -- letters that are no longer kept.
  told            bigint NOT NULL DEFAULT 0,
  dead            bigint NOT NULL DEFAULT 0,
  lost            bigint NOT NULL DEFAULT 0,
  letters_dropped bigint NOT NULL DEFAULT 0
);

-- The worst severity (rank) of each alert that a destination was told. Later revisions depend on it.
CREATE TABLE notification_told (
  destination text NOT NULL REFERENCES notification_destinations ON DELETE CASCADE,
  alert_id    text NOT NULL,
  severity    smallint NOT NULL,
  at          bigint NOT NULL,
  PRIMARY KEY (destination, alert_id)
);
CREATE INDEX notification_told_at ON notification_told (at);

-- What a destination would not take. What it was is in the channel, at the offset.
CREATE TABLE notification_dead_letters (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  destination  text NOT NULL REFERENCES notification_destinations ON DELETE CASCADE,
  "offset"     bigint NOT NULL,
  alert_id     text NOT NULL,
  revision     integer NOT NULL,
  event        text NOT NULL,
  reason       text NOT NULL,
  died_at      bigint NOT NULL,
  -- Since when an operator wants it tried again; null: nobody does.
  requested_at bigint,
  UNIQUE (destination, "offset")
);
CREATE INDEX notification_dead_letters_requested ON notification_dead_letters (destination, id) WHERE requested_at IS NOT NULL;
