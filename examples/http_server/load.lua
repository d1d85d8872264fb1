-- A load for wrk: text in bodies of about 32 KiB, each a little different.
--   wrk -t1 -c48 -d60s -s examples/http_server/load.lua http://127.0.0.1:8080
local words = {}
for word in ("the queue is bounded and a job that is refused comes back un-run so memory stays flat while "
    .. "producers wait time out or are told to come again later"):gmatch("%S+") do
  words[#words + 1] = word
end

wrk.method = "POST"
wrk.path = "/jobs?level=9"

local bodies = {}
for n = 1, 16 do
  math.randomseed(n)
  local text = {}
  for i = 1, 6000 do
    text[i] = words[math.random(#words)] .. math.random(99)
  end
  bodies[n] = table.concat(text, " ")
end

local next_body = 0

function request()
  next_body = next_body % #bodies + 1
  return wrk.format(nil, nil, nil, bodies[next_body])
end
