-- Fields that the venue sends and no table reads, and in how many frames of which kind.
-- Looks at each frame, its first event, and the first item of that event's list.
SELECT file, kind, field, count(*) AS frames
FROM (
    SELECT file, kind, unnest(list_distinct(flatten(json_keys(json, $places)))) AS field
    FROM frames
    WHERE list_contains($takes, kind)
)
WHERE NOT list_contains($known, field)
GROUP BY ALL
ORDER BY ALL
