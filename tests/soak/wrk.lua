-- Plain requests through an HTTP proxy for hosts in turn; each answer says which host was asked
-- for and who asked the origin. Arguments: origin port, then host=peer|peer for each host.
local hosts, peers, counts = {}, {}, {}
local port, turn = "", 0
local thread_list = {}

function setup(thread)
  table.insert(thread_list, thread)
end

function init(args)
  port = args[1]
  for i = 2, #args do
    local host, allowed = args[i]:match("([^=]+)=(.+)")
    table.insert(hosts, host)
    peers[host] = "|" .. allowed .. "|"
  end
  right, refused, wrong, first_wrong = 0, 0, 0, ""
end

function request()
  turn = turn + 1
  local host = hosts[turn % #hosts + 1]
  return wrk.format("GET", "http://" .. host .. ":" .. port .. "/", {["Host"] = host})
end

function response(status, headers, body)
  if status ~= 200 then
    refused = refused + 1
    return
  end
  local host, peer = body:match('"host": "([^":]+)'), body:match('"peer": "([^"]+)"')
  if host and peer and peers[host] and peers[host]:find("|" .. peer .. "|", 1, true) then
    right = right + 1
  else
    wrong = wrong + 1
    first_wrong = body
  end
end

function done()
  local all = {right = 0, refused = 0, wrong = 0}
  local first = ""
  for _, thread in ipairs(thread_list) do
    for name in pairs(all) do all[name] = all[name] + thread:get(name) end
    if thread:get("first_wrong") ~= "" then first = thread:get("first_wrong") end
  end
  print(("right %d refused %d wrong %d %s"):format(all.right, all.refused, all.wrong, first))
end
