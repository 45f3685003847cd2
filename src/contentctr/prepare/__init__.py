"""From raw rooms, KuaiLive-M3 and PHD to a prepared folder."""
