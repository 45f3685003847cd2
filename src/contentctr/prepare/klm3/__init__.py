"""KuaiLive-M3: published tables of live rooms, with stored vectors in place of pictures."""
