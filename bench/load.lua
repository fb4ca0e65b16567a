-- wrk script: `write` as its argument sends POST /integer INC, anything else GET /integer. At the end it prints one JSON
-- line with the totals and the whole latency distribution, so that several wrk can be merged exactly.

function init(arguments)
  wrk.path = "/integer"
  if arguments[1] == "write" then
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "application/json"
    wrk.body = '{"op":"INC","value":1}'
  end
end

function done(summary, latency)
  local counts = {}
  for i = 1, #latency do
    local microseconds, count = latency(i)
    counts[i] = string.format("[%d,%d]", microseconds, count)
  end
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format('{"requests":%d,"microseconds":%d,"refused":%d,"failed":%d,"latency":[%s]}\n',
    summary.requests, summary.duration, errors.status, failed, table.concat(counts, ",")))
end
