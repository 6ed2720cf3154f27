-- Whether a call was made with a key of the caller's own: it is counted, and costs nothing.
alter table billing.rated_events add column own_key boolean not null default false;
