"""Object stores: one interface (``base``), spoken over S3 (``sdk``) and to a directory (``local``)."""
