-- wrk's script: posts one body again and again, and prints the figures as JSON. Its settings are environment variables.
-- MEAN_DELAY: milliseconds that a connection waits before its next request, exponentially distributed: many connections then
-- send at a rate that does not depend on the answers.

local file = assert(io.open(os.getenv("BODY"), "rb"))
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
wrk.headers["Content-Type"] = os.getenv("CONTENT_TYPE")
if os.getenv("JSON_BYTES") then
  wrk.headers["Inference-Header-Content-Length"] = os.getenv("JSON_BYTES")
end

local mean = tonumber(os.getenv("MEAN_DELAY") or "0")
if mean > 0 then
  function delay()
    return math.floor(0.5 - mean * math.log(1 - math.random()))
  end
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"seconds": %.6f, "requests": %d, "p50": %.0f, "p99": %.0f, "broken": %d, "refused": %d, "late": %d}\n',
    summary.duration / 1e6, summary.requests, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write, e.status, e.timeout))
end
