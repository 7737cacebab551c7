"""The verify room: what must hold of every migration, whatever the policy."""
