#!/usr/bin/env bash
# The face study, tier by tier: experiments/faces.sh TIER FACES [SMILES] [FLAGS]. The same command goes on where it was
# stopped.
#
# FACES: folder, zip or csv as for `advmix data`, with columns identity, Smiling, Male and so on, and splits.
# SMILES: the same with a column smiling, another source of faces (tiers smiling and amounts; may be left out).
# FLAGS, from the first word that begins with a dash, go to every study of the tier and override what is written here:
# experiments/faces.sh select FACES --steps 4 --out runs/study/celeba/select-steps4
# WORST=1000 looks for worst cases on so many of the judged images (500 in the tier smiling, 300 in the others).
# PROCESSES=2 OMP_NUM_THREADS=1 divides the work over two processes; EXPERIMENT=echo shows the commands and runs none.
# GAN=FOLDER, for pictures: what `advmix fit --regime gan` wrote; pictures of its faces may be published.
set -euo pipefail
tier=${1:-} faces=${2:-} smiles=
if [ "${faces#-}" != "$faces" ]; then
  faces=
fi
shift $(($# < 2 ? $# : 2))
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
  smiles=$1
  shift
fi
further=("$@")
read -ra program <<<"${EXPERIMENT:-python -m experiments}"
also=()
if [ -n "$smiles" ]; then
  also=(--also "$smiles" --also-target smiling)
fi
methods=(nominal mixup linf4 linf8 randmix advmix)
controls=(nominal-long randmix-long jitter augmix reconstructed advmix-small pretrained advmix-filtered advmix-decoded)
few=(nominal linf8 randmix advmix advmix-filtered)
refit=(nominal mixup linf4 linf8 randmix advmix nominal-refit advmix-refit)

started=()
stop() { # Ctrl-C does not reach what runs in the background: it is told, and saves where it is
  trap - INT TERM
  kill -TERM ${started[@]+"${started[@]}"} 2>/dev/null || true
  wait
  exit 130
}

kept=()
keep() { # a command without the flags that are given again by hand
  local word other keeping=1
  kept=()
  for word in "$@"; do
    if [ "${word#--}" != "$word" ]; then
      keeping=1
      for other in ${further[@]+"${further[@]}"}; do
        if [ "$other" = "$word" ]; then keeping=0; fi
      done
    fi
    if [ "$keeping" = 1 ]; then kept+=("$word"); fi
  done
}

run() { # a study, in all processes; one that fails leaves the others their work, and fails the tier in the end
  keep "$@" --data "$faces"
  local command=("${program[@]}" "${kept[@]}" ${further[@]+"${further[@]}"}) process failed=0
  if [ "${PROCESSES:-1}" = 1 ]; then
    "${command[@]}"
    return
  fi
  started=()
  trap stop INT TERM
  for ((process = 0; process < PROCESSES; process++)); do
    "${command[@]}" &
    started+=($!)
  done
  for process in "${started[@]}"; do
    wait "$process" || failed=$?
  done
  trap - INT TERM
  return "$failed"
}

tested() { # errors on val and test; worst cases of as many images as a day allows
  local out=$1
  shift
  run celeba --judge test --worst-images "${WORST:-300}" --out "runs/study/celeba/$out" "$@"
}

case " ${further[*]-} " in
*" --out "* | *" --out="*)
  case "$tier" in
  amounts | attributes | stress | marginalize)
    echo "$0: --out: the tier $tier is several studies, which cannot share a folder; run one of them by itself, as EXPERIMENT=echo shows it" >&2
    exit 2
    ;;
  esac
  ;;
esac

case "$tier${faces:+ }" in
"select ")
  run celeba --judge select --worst-images "${WORST:-300}" --methods "${few[@]}" --out runs/study/celeba/select
  ;;
"autoencoder ") run photo-autoencoder --out runs/study/photo-autoencoder ;;
"smiling ")
  WORST=${WORST:-500}
  tested smiling --methods "${methods[@]}" "${controls[@]}" ${also[@]+"${also[@]}"}
  ;;
"tinted ") tested tinted --tint 0.5 --methods "${methods[@]}" jitter ;;
"amounts ")
  for labelled in None 1000; do
    tested "labelled-$labelled" --labelled "$labelled" --methods "${methods[@]}" ${also[@]+"${also[@]}"}
  done
  ;;
"attributes ")
  for target in Eyeglasses Young Wearing_Lipstick; do
    tested "$target" --target "$target" --methods "${few[@]}"
  done
  ;;
"stress ")
  tested stress-blond --target Blond_Hair --cue Male --agreement 0.98 --methods "${refit[@]}"
  tested stress-smiling --target Smiling --cue Male --agreement 0.95 --methods "${refit[@]}"
  ;;
"survival ") run celeba-survival --out runs/study/celeba-survival ;;
"marginalize ")
  run celeba-marginalize --judge test --out runs/study/celeba-marginalize/smiling
  run celeba-marginalize --judge test --tint 0.5 --out runs/study/celeba-marginalize/tinted
  ;;
"pictures ")
  PROCESSES=1
  run celeba-pictures --out runs/study/celeba-pictures
  if [ -n "${GAN:-}" ]; then
    run celeba-pictures --generator "$GAN" --publish --out runs/study/celeba-published
  fi
  ;;
*)
  echo "usage: $0 select|autoencoder|smiling|tinted|amounts|attributes|stress|survival|marginalize|pictures FACES [SMILES] [FLAGS]" >&2
  exit 2
  ;;
esac
