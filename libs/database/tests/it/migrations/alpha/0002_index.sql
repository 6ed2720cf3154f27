-- no-transaction
create index concurrently thing_organization on alpha.thing (organization_id);
