"""Durable mailboxes on Redis or Valkey: fenced, peek-and-ack logs in partitions."""
