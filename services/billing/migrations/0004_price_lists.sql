-- Prices of more than three kinds: what is written to a cache, audio, long prompts, tiers, and media in their own units.
-- Unset where a price was published before these could be said; then they may join.
alter table billing.published_prices add column list jsonb;
