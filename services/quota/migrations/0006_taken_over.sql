-- A reservation that was handed over to be settled, and is not settled yet: nothing is charged for it so far, and it can't be released
-- any more.
alter table quota.settlements add column taken_over boolean not null default false;
