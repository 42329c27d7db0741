"""The SDC consumer role: discovery, session, subscriptions, fleet."""
