"""Published policy weights: a version is whole, verified and never changed.

    weights/v00000012/{config.json, model.safetensors, …, MANIFEST.json}

The learner publishes; rollout and teacher pull. A reader never loads a version whose manifest is
missing, whose files do not match their checksums, or which belongs to another run.

    store.py     what a store does, and what it says of a version
    manifest.py  the checksums of a version, written last
    folder.py    a folder that all services see
    s3.py        an object store; each machine keeps what it reads in a folder of its own (cache.py)
    bucket.py    one call of the object store: its deadline, its retries, its errors in our words
    choice.py    the one that the configuration names
"""

from rlsd.weights.folder import FolderStore
from rlsd.weights.manifest import Manifest, Probe
from rlsd.weights.store import Fetched, WeightStore, fetch_newest

__all__ = ["Fetched", "FolderStore", "Manifest", "Probe", "WeightStore", "fetch_newest"]
