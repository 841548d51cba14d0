"""Where pages live between reads: RAM (``ram``), local disk (``segmentstore``) or memory standing
in for a disk (``memory``), and the manifests kept beside them (``shelf``)."""
