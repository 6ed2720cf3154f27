-- How many requests an event stands for, for statements: those that cost nothing are counted together.
alter table billing.rated_events add column requests bigint not null default 1;
