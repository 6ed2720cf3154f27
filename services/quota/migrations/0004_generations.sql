-- Rolling windows have no version that could tell a settlement that was read from one that was not. So each is written either before
-- anybody reads counters for the next generation of the fast store, or not at all: whoever settled before knows that what is read
-- has it, and whoever comes too late asks again, and is told what to do in the generation that is in force then.

alter table quota.epochs add column read boolean not null default false;
comment on column quota.epochs.read is 'Counters have been read for it: nothing is settled any more that counts in an earlier one';

-- Waits until what is being settled in earlier generations is written. Must be called before counters are read for a generation.
create function quota.read_for(number bigint) returns void language plpgsql volatile as $$
begin
    if exists (select from quota.epochs where generation = number and read) then
        return;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('quota.epochs', 0));
    update quota.epochs set read = true where generation = number;
end $$;

-- Whether what counts in a generation may be settled still; if so, nobody reads counters for a later one before the transaction ends.
create function quota.settles_in(number bigint) returns boolean language plpgsql volatile as $$
begin
    perform pg_advisory_xact_lock_shared(hashtextextended('quota.epochs', 0));
    -- A statement of its own sees what was committed while the one before it waited.
    return not exists (select from quota.epochs where read and generation > number);
end $$;
