# The broker alone, for production: its ledger is a Redis elsewhere. Runs as uid 65532 on a read-only root; it writes only to the audit
# log's folder (/var/lib/mayfly) and wants the configuration at /etc/mayfly.
FROM node:24-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# No dependency needs to run a script to be built into the image. Why not `npm ci`: see scripts/setup.sh.
RUN npm install --no-save --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY scripts/build.sh scripts/
COPY src src
RUN scripts/build.sh && npm prune --no-save --omit=dev --ignore-scripts

FROM node:24-bookworm-slim
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY config config
COPY LICENSE ./
RUN ln -s /app/dist/main.js /usr/local/bin/mayfly && install -d -o 65532 -g 65532 -m 0750 /var/lib/mayfly
USER 65532:65532
EXPOSE 8443 9443 9090
# Node itself gets SIGTERM and drains.
ENTRYPOINT ["node", "/app/dist/main.js"]
CMD ["serve", "--config", "/etc/mayfly/mayfly.yaml"]
