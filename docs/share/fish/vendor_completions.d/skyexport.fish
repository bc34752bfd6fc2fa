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
complete -c skyexport -n 'not __skyexport_command >/dev/null' -a export -d 'Export posts, newest first, to one file of JSON, JSON Lines, CSV or Parquet, or to several; of many archives too.'
complete -c skyexport -n 'not __skyexport_command >/dev/null' -a inspect -d 'Show what an archive holds: posts, authors, dates, and how large an export would be.'
complete -c skyexport -n 'not __skyexport_command >/dev/null' -a verify -d 'Verify exports: every file is as it was written, and the data files can be read and have all posts.'
complete -c skyexport -n 'not __skyexport_command >/dev/null' -a bench -d 'Measure which settings export an archive fastest on this machine, and recommend some.'
complete -c skyexport -n 'not __skyexport_command >/dev/null' -a config -d 'Show which value holds for each option that is not typed, and why.'
complete -c skyexport -n 'not __skyexport_command >/dev/null' -l config -r -F -d 'Take options from this TOML file as well.'
complete -c skyexport -n 'not __skyexport_command >/dev/null' -s V -l version -d 'Show the version.'
complete -c skyexport -n 'not __skyexport_command >/dev/null' -l install-completion -d 'Install completion for the current shell.'
complete -c skyexport -n 'not __skyexport_command >/dev/null' -l show-completion -d 'Show completion for the current shell, to copy it or customize the installation.'
complete -c skyexport -n 'not __skyexport_command >/dev/null' -s h -l help -d 'Show this message and exit.'

complete -c skyexport -n 'contains -- export (__skyexport_command)' -F
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l config -r -F -d 'Take options from this TOML file as well.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -s f -l format -x -a 'json jsonl csv parquet' -d 'The output format.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l compress -x -a 'gzip zstd' -d 'Compress data files of text.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l columns -x -d 'Only these columns, in this order; not for json.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l delimiter -x -d 'What stands between the fields of csv: , ; | or tab.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l no-bom -d 'Begin csv without a byte order mark.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l csv-safe -d 'Put an apostrophe before cells of csv that a spreadsheet may take for a formula.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l split-posts -x -d 'Begin another data file after N posts.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l split-bytes -x -d 'Begin another data file before one is larger, uncompressed; like 100MB.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l author -x -d 'Only posts by this author: did:plc:… or alice.bsky.social.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l since -x -d 'From this date (in UTC) or RFC 3339 instant on.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l until -x -d 'Up to this date (the whole day) or instant.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -s o -l output-dir -x -a '(__fish_complete_directories)' -d 'Make the directory DIR/AUTHOR/TIME for the export.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l to -r -F -d 'Write just the data file, exactly there; - is standard output.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l overwrite -d 'Let --to replace an existing file.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -s j -l workers -x -a 'auto' -d 'Worker processes; 0 does all in one. auto: a worker for each CPU, none for a small archive.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l batch-size -x -d 'Posts a batch.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l memory-limit -x -d 'Bound on the memory of all processes together, like 500MB or 1GiB.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l progress -x -a 'auto bar plain json none' -d 'How to show progress, on standard error. auto: a bar on a terminal, else plain lines.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l json -d 'Print the result as one JSON object on standard output.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l no-sync -d 'Do not wait until everything is on the disk: a crash may lose it.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l snapshot -x -a 'pin copy' -d 'pin holds the archive until all is read; copy just until posts are copied to a temporary file.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l media -d 'Copy the media files of the exported posts too, into media/ of the export.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l media-root -x -a '(__fish_complete_directories)' -d 'What paths of media are relative to.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l link-media -x -a '(__fish_complete_directories)' -d 'An earlier export: hard-link media files that it has and that have not changed, instead of copying.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l match -x -d 'Only posts that the archive\'s full-text index finds, in the syntax of SQLite\'s FTS5.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l since-export -x -a '(__fish_complete_directories)' -d 'Only posts that are new or changed since the export in DIR; again for its increments, oldest first.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l since-last -d 'Only posts that are new or changed since the newest full export in DIR/AUTHOR and its increments.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l allow-unrelated -d 'Go on though the archive has no post of an earlier export.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l keep -x -d 'Verify the new export, then remove older ones: keep N full exports with their increments.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l dry-run -d 'Say what would be exported, how large and where; write nothing.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l register -d 'Add the export to the archive\'s own list, as bskyarchive does: the only write to an archive ever.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l strict -d 'Fail when a value can not be exported as stored.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l from-file -r -F -d 'Export the archives of a list too: a path a line (or as find -print0 ends it); - is standard input.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l resume-batch -d 'Skip archives whose export is there: same archive, same options, and verified.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -s q -l quiet -d 'Print errors only.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -s v -l verbose -d 'Print settings and checksums as well.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -l debug -d 'Show a traceback for every error.'
complete -c skyexport -n 'contains -- export (__skyexport_command)' -s h -l help -d 'Show this message and exit.'

complete -c skyexport -n 'contains -- inspect (__skyexport_command)' -F
complete -c skyexport -n 'contains -- inspect (__skyexport_command)' -l config -r -F -d 'Take options from this TOML file as well.'
complete -c skyexport -n 'contains -- inspect (__skyexport_command)' -l authors -d 'List all authors instead, a line each: posts, DID, handle.'
complete -c skyexport -n 'contains -- inspect (__skyexport_command)' -l json -d 'Print the result as one JSON object on standard output.'
complete -c skyexport -n 'contains -- inspect (__skyexport_command)' -l debug -d 'Show a traceback for every error.'
complete -c skyexport -n 'contains -- inspect (__skyexport_command)' -s h -l help -d 'Show this message and exit.'

complete -c skyexport -n 'contains -- verify (__skyexport_command)' -a '(__fish_complete_directories)'
complete -c skyexport -n 'contains -- verify (__skyexport_command)' -l config -r -F -d 'Take options from this TOML file as well.'
complete -c skyexport -n 'contains -- verify (__skyexport_command)' -s r -l recursive -d 'Verify every export in and below the directories.'
complete -c skyexport -n 'contains -- verify (__skyexport_command)' -l json -d 'Print the result as one JSON object on standard output.'
complete -c skyexport -n 'contains -- verify (__skyexport_command)' -s q -l quiet -d 'Print differences and errors only.'
complete -c skyexport -n 'contains -- verify (__skyexport_command)' -l debug -d 'Show a traceback for every error.'
complete -c skyexport -n 'contains -- verify (__skyexport_command)' -s h -l help -d 'Show this message and exit.'

complete -c skyexport -n 'contains -- bench (__skyexport_command)' -F
complete -c skyexport -n 'contains -- bench (__skyexport_command)' -l config -r -F -d 'Take options from this TOML file as well.'
complete -c skyexport -n 'contains -- bench (__skyexport_command)' -s o -l output-dir -x -a '(__fish_complete_directories)' -d 'A directory on the disk where exports will go; nothing stays there.'
complete -c skyexport -n 'contains -- bench (__skyexport_command)' -l posts -x -d 'Measure with about so many of the newest posts.'
complete -c skyexport -n 'contains -- bench (__skyexport_command)' -l runs -x -d 'Runs of each measurement.'
complete -c skyexport -n 'contains -- bench (__skyexport_command)' -l memory-limit -x -d 'Bound on the memory of all processes together, like 500MB or 1GiB.'
complete -c skyexport -n 'contains -- bench (__skyexport_command)' -l json -d 'Print the result as one JSON object on standard output.'
complete -c skyexport -n 'contains -- bench (__skyexport_command)' -l debug -d 'Show a traceback for every error.'
complete -c skyexport -n 'contains -- bench (__skyexport_command)' -s h -l help -d 'Show this message and exit.'

complete -c skyexport -n 'contains -- config (__skyexport_command)' -a 'export inspect verify bench config'
complete -c skyexport -n 'contains -- config (__skyexport_command)' -l config -r -F -d 'Take options from this TOML file as well.'
complete -c skyexport -n 'contains -- config (__skyexport_command)' -l json -d 'Print the result as one JSON object on standard output.'
complete -c skyexport -n 'contains -- config (__skyexport_command)' -l debug -d 'Show a traceback for every error.'
complete -c skyexport -n 'contains -- config (__skyexport_command)' -s h -l help -d 'Show this message and exit.'
