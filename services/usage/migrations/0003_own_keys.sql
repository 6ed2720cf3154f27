-- The caller's own key that a call was made with; null: the platform's. Such a call costs the platform nothing.
alter table usage.events add column provider_key_id uuid;
alter table usage.event_originals add column provider_key_id uuid;
