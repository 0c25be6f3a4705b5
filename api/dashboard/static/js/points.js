/**
 * Thousands of points over a plotly chart, by WebGL: a brush, a filter or a hovered point changes
 * this layer alone, and plotly draws nothing anew. (plotly's own WebGL traces make code from text,
 * which the content security policy forbids.) Without WebGL a plain canvas serves.
 * @module
 */
import { h } from "./dom.js";
import { colour } from "./theme.js";

/**
 * @typedef {{x: number, y: number, hollow: boolean, strong: boolean, faded: boolean}} Point
 *   x and y as the axes have them: on a logarithmic axis their logarithm to base 10.
 * @typedef {{left: number, top: number, width: number, height: number,
 *            x: [number, number], y: [number, number]}} Frame
 */

const VERTEX = `
attribute vec2 place;
attribute vec3 look;
uniform vec4 range;
uniform mediump float size;
varying vec3 v_look;
void main() {
  vec2 at = (place - range.xy) / (range.zw - range.xy) * 2.0 - 1.0;
  gl_Position = vec4(at, 0.0, 1.0);
  gl_PointSize = size * (look.y > 0.5 ? 1.25 : 1.0);
  v_look = look;
}`;

const FRAGMENT = `
precision mediump float;
uniform vec3 plain;
uniform vec3 strong;
uniform mediump float size;
varying vec3 v_look;
void main() {
  float from = length(gl_PointCoord - 0.5) * 2.0;
  float soft = 2.0 / size;
  float inside = 1.0 - smoothstep(1.0 - soft, 1.0, from);
  float ring = smoothstep(0.62 - soft, 0.62, from);
  float cover = v_look.x > 0.5 ? inside * mix(0.16, 1.0, ring) : inside;
  float alpha = cover * (v_look.y > 0.5 ? 0.95 : 0.62) * (v_look.z > 0.5 ? 0.13 : 1.0);
  gl_FragColor = vec4((v_look.y > 0.5 ? strong : plain) * alpha, alpha);
}`;

export class PointLayer {
  /** @param {HTMLElement} host a positioned element around the chart */
  constructor(host) {
    this.canvas = h("canvas", { class: "point-layer", "aria-hidden": "true" });
    host.append(this.canvas);
    /** @type {Point[]} */
    this.points = [];
    /** @type {Frame | null} */
    this.frame = null;
    this._prepare();
    this.canvas.addEventListener("webglcontextlost", (/** @type {Event} */ event) => event.preventDefault());
    this.canvas.addEventListener("webglcontextrestored", () => {
      this._prepare();
      this.draw(this.points, this.frame);
    });
  }

  _prepare() {
    const gl = this.canvas.getContext("webgl", { antialias: true, premultipliedAlpha: true,
                                                 preserveDrawingBuffer: true });
    this.gl = gl;
    this.canvas.dataset.renderer = gl ? "webgl" : "canvas";
    if (!gl) return;
    const program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    this.program = program;
    this.buffer = gl.createBuffer();
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  /**
   * @param {Point[]} points
   * @param {Frame | null} frame
   */
  draw(points, frame) {
    this.points = points;
    this.frame = frame;
    if (!frame) return;
    const ratio = window.devicePixelRatio || 1;
    const { canvas } = this;
    Object.assign(canvas.style, { left: `${frame.left}px`, top: `${frame.top}px`,
      width: `${frame.width}px`, height: `${frame.height}px` });
    canvas.width = Math.round(frame.width * ratio);
    canvas.height = Math.round(frame.height * ratio);
    const size = (points.length > 2000 ? 5 : 8) * ratio;
    if (this.gl) this._drawGl(points, frame, size);
    else this._drawFlat(points, frame, size);
  }

  /**
   * @param {Point[]} points
   * @param {Frame} frame
   * @param {number} size
   */
  _drawGl(points, frame, size) {
    const { gl, program } = this;
    const data = new Float32Array(points.length * 5);
    points.forEach((one, i) => data.set(
      [one.x, one.y, Number(one.hollow), Number(one.strong), Number(one.faded)], i * 5));
    gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer);
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
    for (const [name, width, from] of [["place", 2, 0], ["look", 3, 8]]) {
      const place = gl.getAttribLocation(program, name);
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, width, gl.FLOAT, false, 20, from);
    }
    const uniform = (/** @type {string} */ name) => gl.getUniformLocation(program, name);
    gl.uniform4f(uniform("range"), frame.x[0], frame.y[0], frame.x[1], frame.y[1]);
    gl.uniform1f(uniform("size"), size);
    gl.uniform3fv(uniform("plain"), parts(colour("c0")));
    gl.uniform3fv(uniform("strong"), parts(colour("c1")));
    gl.drawArrays(gl.POINTS, 0, points.length);
  }

  /**
   * @param {Point[]} points
   * @param {Frame} frame
   * @param {number} size
   */
  _drawFlat(points, frame, size) {
    const pen = this.canvas.getContext("2d");
    if (!pen) return;
    const { width, height } = this.canvas;
    pen.clearRect(0, 0, width, height);
    for (const one of points) {
      const x = ((one.x - frame.x[0]) / (frame.x[1] - frame.x[0])) * width;
      const y = height - ((one.y - frame.y[0]) / (frame.y[1] - frame.y[0])) * height;
      pen.globalAlpha = one.faded ? 0.12 : 0.8;
      pen.fillStyle = pen.strokeStyle = colour(one.strong ? "c1" : "c0");
      pen.beginPath();
      pen.arc(x, y, size / 2 - 1, 0, 2 * Math.PI);
      if (one.hollow) pen.stroke();
      else pen.fill();
    }
  }
}

/** @param {string} hex such as #0a62b0 */
function parts(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255);
}
