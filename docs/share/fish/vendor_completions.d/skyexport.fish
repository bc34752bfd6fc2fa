# Completion of skyexport for fish. Made by tools/make_manual.py; change it there, and run `make manual`.

function __skyexport_command
    set -l words (commandline -opc)
    set -e words[1]
    while set -q words[1]
        switch $words[1]
            case --config
                set -q words[2]; and set -e words[1]
            case '-*'
            case '*'
                echo $words[1]
                return 0
        end
        set -e words[1]
    end
    return 1
end

complete -c skyexport -f
complete -c skyexport -n 'not __skyexport_command >/dev/null' -a export -d 'Export posts to JSON, JSON Lines, CSV, Parquet or HTML.'
complete -c skyexport -n 'not __skyexport_command >/dev/null' -a import -d 'Make an archive of the CAR file that Bluesky lets you download.'
complete -c skyexport -n 'not __skyexport_command >/dev/null' -a inspect -d 'Show the contents of an archive, and how large exports would be.'
complete -c skyexport -n 'not __skyexport_command >/dev/null' -a verify -d 'Check that exports are complete, unchanged, and readable.'
complete -c skyexport -n 'not __skyexport_command >/dev/null' -a ui -d 'Read, export and verify in your browser: a page on this machine.'
complete -c skyexport -n 'not __skyexport_command >/dev/null' -a merge -d 'Merge the reports of all shards of one list of archives.'
complete -c skyexport -n 'not __skyexport_command >/dev/null' -a bench -d 'Measure which settings export an archive fastest on this machine.'
complete -c skyexport -n 'not __skyexport_command >/dev/null' -l config -r -F -d 'Read options from this TOML file too.'
complete -c skyexport -n 'not __skyexport_command >/dev/null' -s V -l version -d 'Show the version and the renderer.'
complete -c skyexport -n 'not __skyexport_command >/dev/null' -s h -l help -d 'Show this message and exit.'

complete -c skyexport -n 'contains -- export (__skyexport_command)' -F
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l author -x -d 'Only posts by did:plc:… or alice.bsky.social.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l since -x -d 'From this day (UTC) or instant.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l until -x -d 'To this day\'s end, or instant.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l match -x -d 'Only posts that the archive\'s full-text index finds: cats dogs, cats OR dogs, "the cat", cat*.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l limit -x -d 'Only the newest N of these posts.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -s f -l format -x -a 'json jsonl csv parquet html' -d 'The format.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l to -r -F -d 'Write just this data file; - is standard output.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -s o -l output-dir -x -a '(__fish_complete_directories)' -d 'Write into DIR/AUTHOR/TIME.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l overwrite -d 'Let --to replace a file.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l compress -x -a 'gzip zstd' -d 'Compress text formats.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l columns -x -d 'Only these, in this order; not json.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l split-posts -x -d 'Start a new file after N posts.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l split-bytes -x -d 'Start a new file before SIZE, like 100MB (uncompressed).'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l register -d 'List the export in the archive, as bskyarchive does: the only write to an archive.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l delimiter -x -d 'One of , ; | or tab.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l no-header -d 'Leave out the row of column names.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l no-bom -d 'Leave out the byte order mark.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l csv-safe -d 'Prefix formula-like cells with an apostrophe.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l media -d 'Copy the posts\' media files too, into media/.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l media-root -x -a '(__fish_complete_directories)' -d 'Base of media paths.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l link-media -x -a '(__fish_complete_directories)' -d 'Hard-link unchanged files of the earlier export DIR.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l since-export -x -a '(__fish_complete_directories)' -d 'Only posts new or changed since the export DIR; repeat for its increments, oldest first.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l since-last -d 'Only posts new or changed since the newest full export in DIR/AUTHOR and its increments.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l allow-unrelated -d 'Accept earlier exports of another archive.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l keep -x -d 'Verify the new export, then keep only N full exports with their increments.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l from-file -r -F -d 'Also export the archives in LIST: one path per line, or as find -print0 prints; - is standard input.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l shard -x -d 'The I-th of N parts of the archives, for one machine.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l cluster -x -d 'Let a Dask cluster export; local:N starts one here.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l resume-batch -d 'Skip archives that have this export, and verified.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -s j -l workers -x -a 'auto' -d 'Worker processes. auto: one per CPU, 0 for small archives.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l memory-limit -x -d 'For all processes together, like 1GB.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l batch-size -x -d 'Posts per batch.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l no-sync -d 'Do not wait for the disk: a crash may lose the export.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l snapshot -x -a 'pin copy' -d 'pin: hold the archive until all is read. copy: only until its posts are copied.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l dry-run -d 'Show what an export would do; write nothing.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l strict -d 'Fail if a value cannot be exported as stored.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -s q -l quiet -d 'Print warnings and errors only; -qq: errors only.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -s v -l verbose -d 'Print settings and checksums as well.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l progress -x -a 'auto bar plain json none' -d 'auto: a bar on a terminal, else lines.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l json -d 'Print the result as one JSON object on stdout.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l debug -d 'Show a traceback for every error.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l config -r -F -d 'Read options from this TOML file too.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -s h -l help -d 'Show this message and exit.'

complete -c skyexport -n 'contains -- import (__skyexport_command)' -l config -r -F -d 'Read options from this TOML file too.'
complete -c skyexport -n 'contains -- import (__skyexport_command)' -l to -r -F -d 'The archive: new, or made by an earlier import, which adds what is new.'
complete -c skyexport -n 'contains -- import (__skyexport_command)' -l handle -x -d 'Handle of the account, which is not in the file.'
complete -c skyexport -n 'contains -- import (__skyexport_command)' -l blobs -x -a '(__fish_complete_directories)' -d 'Folder with images and videos, named by CID: they are checked, and copied beside the archive.'
complete -c skyexport -n 'contains -- import (__skyexport_command)' -l remove-gone -d 'Remove posts that the repository no longer has.'
complete -c skyexport -n 'contains -- import (__skyexport_command)' -l memory-limit -x -d 'For all processes together, like 1GB.'
complete -c skyexport -n 'contains -- import (__skyexport_command)' -s q -l quiet -d 'Print warnings and errors only; -qq: errors only.'
complete -c skyexport -n 'contains -- import (__skyexport_command)' -l progress -x -a 'auto bar plain json none' -d 'auto: a bar on a terminal, else lines.'
complete -c skyexport -n 'contains -- import (__skyexport_command)' -l json -d 'Print the result as one JSON object on stdout.'
complete -c skyexport -n 'contains -- import (__skyexport_command)' -l debug -d 'Show a traceback for every error.'
complete -c skyexport -n 'contains -- import (__skyexport_command)' -s h -l help -d 'Show this message and exit.'

complete -c skyexport -n 'contains -- inspect (__skyexport_command)' -F
complete -c skyexport -n 'contains -- inspect (__skyexport_command)' -l config -r -F -d 'Read options from this TOML file too.'
complete -c skyexport -n 'contains -- inspect (__skyexport_command)' -l authors -d 'List all authors instead, one per line: posts, DID, handle.'
complete -c skyexport -n 'contains -- inspect (__skyexport_command)' -l json -d 'Print the result as one JSON object on stdout.'
complete -c skyexport -n 'contains -- inspect (__skyexport_command)' -l debug -d 'Show a traceback for every error.'
complete -c skyexport -n 'contains -- inspect (__skyexport_command)' -s h -l help -d 'Show this message and exit.'

complete -c skyexport -n 'contains -- verify (__skyexport_command)' -a '(__fish_complete_directories)'
complete -c skyexport -n 'contains -- verify (__skyexport_command)' -l config -r -F -d 'Read options from this TOML file too.'
complete -c skyexport -n 'contains -- verify (__skyexport_command)' -s r -l recursive -d 'Verify every export in and below the directories.'
complete -c skyexport -n 'contains -- verify (__skyexport_command)' -l json -d 'Print the result as one JSON object on stdout.'
complete -c skyexport -n 'contains -- verify (__skyexport_command)' -s q -l quiet -d 'Print differences and errors only.'
complete -c skyexport -n 'contains -- verify (__skyexport_command)' -l progress -x -a 'auto bar plain json none' -d 'auto: a bar on a terminal, else lines.'
complete -c skyexport -n 'contains -- verify (__skyexport_command)' -l debug -d 'Show a traceback for every error.'
complete -c skyexport -n 'contains -- verify (__skyexport_command)' -s h -l help -d 'Show this message and exit.'

complete -c skyexport -n 'contains -- ui (__skyexport_command)' -l config -r -F -d 'Read options from this TOML file too.'
complete -c skyexport -n 'contains -- ui (__skyexport_command)' -s o -l output-dir -x -a '(__fish_complete_directories)' -d 'Exports that are shown, and where new ones go.'
complete -c skyexport -n 'contains -- ui (__skyexport_command)' -l port -x -d 'Listen on this port.'
complete -c skyexport -n 'contains -- ui (__skyexport_command)' -l host -x -d 'Listen on another address: others on the network can then try to open the page.'
complete -c skyexport -n 'contains -- ui (__skyexport_command)' -l no-browser -d 'Only print the address.'
complete -c skyexport -n 'contains -- ui (__skyexport_command)' -l debug -d 'Show a traceback for every error.'
complete -c skyexport -n 'contains -- ui (__skyexport_command)' -s h -l help -d 'Show this message and exit.'

complete -c skyexport -n 'contains -- merge (__skyexport_command)' -l config -r -F -d 'Read options from this TOML file too.'
complete -c skyexport -n 'contains -- merge (__skyexport_command)' -l json -d 'Print the result as one JSON object on stdout.'
complete -c skyexport -n 'contains -- merge (__skyexport_command)' -l debug -d 'Show a traceback for every error.'
complete -c skyexport -n 'contains -- merge (__skyexport_command)' -s h -l help -d 'Show this message and exit.'

complete -c skyexport -n 'contains -- bench (__skyexport_command)' -F
complete -c skyexport -n 'contains -- bench (__skyexport_command)' -l config -r -F -d 'Read options from this TOML file too.'
complete -c skyexport -n 'contains -- bench (__skyexport_command)' -s o -l output-dir -x -a '(__fish_complete_directories)' -d 'A directory on the disk where exports will go; nothing stays there.'
complete -c skyexport -n 'contains -- bench (__skyexport_command)' -l posts -x -d 'Measure with about N newest posts.'
complete -c skyexport -n 'contains -- bench (__skyexport_command)' -l runs -x -d 'Runs per measurement.'
complete -c skyexport -n 'contains -- bench (__skyexport_command)' -l memory-limit -x -d 'Memory for all processes together, like 500MB or 1GiB.'
complete -c skyexport -n 'contains -- bench (__skyexport_command)' -l json -d 'Print the result as one JSON object on stdout.'
complete -c skyexport -n 'contains -- bench (__skyexport_command)' -l debug -d 'Show a traceback for every error.'
complete -c skyexport -n 'contains -- bench (__skyexport_command)' -s h -l help -d 'Show this message and exit.'
