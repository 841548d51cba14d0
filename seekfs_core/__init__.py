"""The pure core of seekfs: values, functions and state machines that decide, and do no I/O.

Nothing in here opens a socket, a file or a thread, reads a clock or an environment
variable, draws entropy or logs. Time comes in as ``now`` (monotonic seconds), chance as a
seeded ``random.Random``, page bytes never: the core hears lengths and checksums.

What every part of it rests on:

| module | has |
|---|---|
| ``errors``  | everything that can go wrong: a tree of exceptions, and a closed set of store failures |
| ``machine`` | the one shape of all machines |
| ``states``  | the tables of states of all machines that have some |
| ``names``   | what a namespace, a path, a key and HEAD may look like |
| ``pages``   | what names a page, wherever it is cached |

Versions:

| module | decides |
|---|---|
| ``manifest``    | what the list of a version's files is |
| ``manifest_format`` | how it is read, every check included, and written |
| ``resolver``    | which manifest answers for a namespace now |
| ``publication`` | the steps that publish a version without losing another's |
| ``rebase``      | what a change does to its base, and whether it can be made to another one |
| ``revisions``   | which versions there are to ask for, how they compare, what may be removed |
| ``selection``   | which objects that are there already become files |
| ``uploads``     | what is done with each file until the bucket holds all of them |
| ``parted_upload`` | when the parts of an upload become an object, and how they are forgotten |
| ``scan``        | how one object is read through, so that what is read is of one content |
| ``sending``     | whether a file is sent whole or in parts, and asked for first |
| ``transfer_layout`` | how memory is divided when files are sent and objects read through |
| ``creation``    | how an object is put where there is none, and what a lost answer means |
| ``listing``     | how the pages of a listing make one, also where it breaks off |
| ``heads``       | which versions are remembered as current over a restart, and for which bucket |

Reading:

| module | decides |
|---|---|
| ``plan``        | which slices of which pages answer a batch of ranges |
| ``grid``        | which GETs cover a set of missing pages |
| ``lookup``      | where a page that is not in RAM is looked for, in which order |
| ``readahead``   | what a read asks for ahead of the slice it is at |
| ``reuse``       | which pages a read keeps at hand because it comes back to them |
| ``readback``    | what of a page on disk is believed, and how much is read for a slice of it |
| ``patience``    | how long a read waits |
| ``frame_format`` | what the frames of a batch's answer look like |
| ``explain``     | what a read tells of itself: pages, GETs, what it waited for |
| ``readiness``   | whether a node should get requests |
| ``fetch``       | when each GET starts, who waits for it, what a failure means to them |
| ``room``        | an account of the memory of page buffers |
| ``buffers``     | which ceiling each buffer is charged to, who finds it, and when its memory is free |
| ``budget``      | which requests are counted, and when the next may start |
| ``namespace_budgets`` | what a namespace may take of the budget, and who is told that it is spent |
| ``pace``        | how fast a store is asked that wants to be asked less |
| ``breaker``     | whether a store that fails again and again is asked at all |
| ``hedge``       | when a first byte is late, and asked for once more |
| ``slots``       | an account of the requests under way |
| ``closing``     | how the time of the end is divided |
| ``retry``       | whether and when a failed request is made again |
| ``store_answers`` | which failure a status and an error code are, and what of an answer is believed |
| ``signatures``  | what a refusal says of how a request was signed, and what puts that right |
| ``credentials`` | which credentials a request is signed with, and when others are looked for |

Keeping:

| module | decides |
|---|---|
| ``retention``     | which pages are admitted to a tier and which leave it |
| ``writebehind``   | which pages wait for the disk, and when waiting is given up |
| ``staging``       | how one page is brought to disk on demand |
| ``segments``      | where on disk a page goes, and what is reclaimed |
| ``cache_directory`` | what may be in a cache directory, and whether one is used, made, emptied or refused |
| ``restoring``     | what of a cache directory is believed when it is opened |
| ``shelf``         | which manifests are kept beside the pages, and the division of their space |
| ``segment_layout``, ``memory_layout`` | how ceilings on disk and memory are divided, and the least of each |
| ``tier``          | what a fault says of a tier, when it is off for that, and how it comes back |
| ``disk_watch``    | which calls of a disk hang, and are given up |
| ``advice``        | what counters say about a namespace, and what to warm |
| ``tier_counts``   | what counts of pages by tier say: hits, misses |

Recording:

| module | decides |
|---|---|
| ``trace``          | what a trace is, as a file, and whether machines do again what is in one |
| ``trace_classes``  | what can be in a trace |
| ``trace_encoding``, ``trace_decoding`` | how a thing is written, and what of a file is believed |
| ``trace_text``     | how things are told, and what is different between two of them |
| ``trace_timeline`` | a trace as a timeline for people |
| ``testing``        | for programs that embed the core: virtual time, chance, replaying |

Events and actions are beside their machine, or where there are many in a module of their own:
``fetch_messages``, ``resolver_messages``, ``segment_messages``, ``publication_protocol``. What a publication
says where it fails is in ``publication_errors``. ``fetch_work`` and ``segment_work`` are the records that the
two largest machines keep. The parts of the scheduler have modules of their own: ``fetch_gets`` is about which
pages are wanted and the GETs that bring them, ``fetch_lines`` about whose turn it is, ``fetch_flights`` about
GETs that were started, ``fetch_calls`` about requests without pages, ``fetch_waits`` about who waits, and
lets go of what it holds ahead.
"""
