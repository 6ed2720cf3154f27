-- How many requests an event stands for. Those that were answered with what there was already used nothing, and are counted together.
alter table usage.events add column requests bigint not null default 1;
alter table usage.event_originals add column requests bigint not null default 1;
