-- What became of each message of a channel: who was connected, what was sent, what was received. Each process of the
-- installation writes its own rows, with absolute numbers, so that writing again changes nothing; readers add them up.

-- Where the newest revisions of an alert are in the channel, oldest first, beside their times in `revised_at`; and the
-- first one, however many came after it. Alerts of before this migration have none.
ALTER TABLE alerts
  ADD COLUMN first_offset bigint,
  ADD COLUMN revised_offsets bigint[] NOT NULL DEFAULT '{}';

-- Times as everywhere; bins are those of `lib/sketch.ts` over whole ms since the message's time.
-- Rows are written some times in their first minutes: room for that in their page, as no index is touched.
CREATE TABLE alert_deliveries (
  channel           text NOT NULL,
  "offset"          bigint NOT NULL,
  instance          text NOT NULL,
  connected         integer NOT NULL,
  sent              integer NOT NULL,
  resent            integer NOT NULL,
  received          integer NOT NULL,
  first_sent_at     bigint,
  last_sent_at      bigint,
  first_received_at bigint,
  last_received_at  bigint,
  send_bins         integer[] NOT NULL,
  send_counts       integer[] NOT NULL,
  receive_bins      integer[] NOT NULL,
  receive_counts    integer[] NOT NULL,
  PRIMARY KEY (channel, "offset", instance)
) WITH (fillfactor = 50);
