-- Whether anybody may have counted anything in a generation. Before the first such there is nothing to rebuild.
alter table quota.epochs add column in_force boolean not null default true;
alter table quota.epochs alter column in_force set default false;
