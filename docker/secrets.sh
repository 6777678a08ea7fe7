#!/bin/sh
# Makes the secrets of docker-compose.yml as files in docker/secrets, once: what is there is kept.
#
# The folder is its owner's alone (0700). The files in it can be read by anybody who gets at them, since each container
# is handed the ones it needs under a user of its own; nobody else on this machine can reach them. For the same reason
# the configuration beside this script is made readable, which a checkout with umask 077 is not.
set -eu
umask 022
here="$(dirname "$0")"
folder="${1:-$here/secrets}"
mkdir -p "$folder"
chmod 0700 "$folder"

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

# make NAME VALUE: the file, unless it is there; written aside first, so that an interrupted run leaves no half.
make() {
    if [ ! -e "$folder/$1" ]; then
        printf '%s\n' "$2" > "$folder/.$1.new"
        chmod 0644 "$folder/.$1.new"
        mv "$folder/.$1.new" "$folder/$1"
        echo "made $folder/$1"
    fi
}

make postgres_password "$(random)"
make database_url "postgresql+psycopg2://market:$(cat "$folder/postgres_password")@timescaledb:5432/market"
make redis_auth "requirepass $(random)"
make redis_url "redis://:$(cut -d ' ' -f 2 "$folder/redis_auth")@redis:6379/0"
# Empty: the Redis above is the broker, and there is no replica to read from.
make broker_url ""
make database_read_url ""
make api_token "$(random)"
make flower_password "$(random)"
make grafana_password "$(random)"
# Empty: US stocks are not collected. Free keys are at alpaca.markets; write them in here.
make alpaca_api_key ""
make alpaca_secret_key ""

find "$here/redis.conf" "$here/Caddyfile" "$here/monitoring" \( ! -perm -004 -o -type d ! -perm -005 \) \
    -exec chmod a+rX {} +
