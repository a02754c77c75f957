#!/usr/bin/python3
"""Makes a torrent of one file with one tracker: torrent.py FILE URL TORRENT

The torrent is private (BEP 27): a client may take peers from its tracker and
from nowhere else. Prints the info hash in hex.
"""

import os
import sys

import libtorrent

path, url, torrent = sys.argv[1:]
files = libtorrent.file_storage()
libtorrent.add_files(files, path)
made = libtorrent.create_torrent(files, 0, libtorrent.create_torrent.v1_only)
made.add_tracker(url)
made.set_priv(True)
libtorrent.set_piece_hashes(made, os.path.dirname(os.path.abspath(path)))
with open(torrent, "wb") as out:
    out.write(libtorrent.bencode(made.generate()))
print(libtorrent.torrent_info(torrent).info_hashes().v1)
