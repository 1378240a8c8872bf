{{/* SPDX-License-Identifier: GPL-3.0-or-later
     Names and labels, and the pod that both modes share. */}}
{{- define "postern.name" -}}
{{- if contains "postern" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-postern" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "postern.selector" -}}
app.kubernetes.io/name: postern
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "postern.labels" -}}
{{ include "postern.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "postern.podspec" -}}
serviceAccountName: {{ include "postern.name" . }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .Values.antiAffinity }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels: {{- include "postern.selector" . | nindent 14 }}
{{- end }}
{{- if .Values.topologySpread }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "postern.selector" . | nindent 8 }}
{{- end }}
securityContext:
  {{- if eq .Values.mode "sidecar" }}
  fsGroup: {{ .Values.backend.fsGroup | int64 }}
  fsGroupChangePolicy: OnRootMismatch
  {{- else }}
  fsGroup: 2000
  seccompProfile: {type: RuntimeDefault}
  {{- end }}
containers:
  - name: postern
    image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    args: [run, --seccomp{{ if ne .Values.seccomp "on" }}={{ .Values.seccomp }}{{ end }}, /etc/postern/config/postern.yaml]
    ports:
      {{- range .Values.ports }}
      - {name: {{ .name }}, containerPort: {{ .containerPort }}}
      {{- end }}
      - {name: http-metrics, containerPort: {{ .Values.metricsPort }}}
    startupProbe:
      httpGet: {path: /readyz, port: http-metrics}
      periodSeconds: 1
      failureThreshold: 60
    readinessProbe:
      httpGet: {path: /readyz, port: http-metrics}
      periodSeconds: 5
      failureThreshold: 2
    livenessProbe:
      httpGet: {path: /healthz, port: http-metrics}
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 6
    {{- if .Values.preStopSeconds }}
    lifecycle:
      preStop:
        sleep: {seconds: {{ .Values.preStopSeconds }}}
    {{- end }}
    {{- with .Values.resources }}
    resources: {{- toYaml . | nindent 6 }}
    {{- end }}
    securityContext:
      runAsNonRoot: true
      runAsUser: 2000
      runAsGroup: 2000
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
      seccompProfile: {type: RuntimeDefault}
    volumeMounts:
      - {name: config, mountPath: /etc/postern/config, readOnly: true}
      - {name: tls, mountPath: /etc/postern/tls, readOnly: true}
  {{- if eq .Values.mode "sidecar" }}
  - name: backend
    image: {{ required "backend.image: the mail backend beside the sidecar" .Values.backend.image | quote }}
    {{- if .Values.backend.preStopSeconds }}
    lifecycle:
      preStop:
        sleep: {seconds: {{ .Values.backend.preStopSeconds }}}
    {{- end }}
    volumeMounts:
      - {name: mail, mountPath: {{ .Values.backend.mountPath }}}
  {{- end }}
volumes:
  - name: config
    configMap: {name: {{ include "postern.name" . }}}
  - name: tls
    secret: {secretName: {{ .Values.tls.secretName }}, defaultMode: 0440}
{{- end }}
